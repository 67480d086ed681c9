"""How CPU time and memory grow with the number of rows: `fit`, `replay`, `evaluate` and `refit`.

    python tests/benchmarks/scale.py --json                   # 10,000 and 100,000 rows
    python tests/benchmarks/scale.py --json --quick           # small sizes, under 90 s
    python tests/benchmarks/scale.py --only Linear --rows 1000 4000 --package /another/checkout

Data: made rows, from a seed. Texts of 5 to 300 words (median 40) from 50,000 words, of which the
r-th occurs about 1/r as often as the first; some words are hard, and five candidates, the better
the dearer, fail on hard texts. Every measurement is made in a process of its own, which reports the
CPU seconds of the measured call alone, its workers included, and the highest memory of all of them
with Python, libraries and data. `replay_1m_s` are CPU seconds for each processor, all of which have
a worker: seconds by the clock where nothing else runs; `wall_s` are those by the clock. The growth
exponent is that of CPU seconds from the smallest to the largest size: 1 is linear.
`largest_exponent` is of sizes from 10,000 rows on, and None with `--quick`.
"""

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
CANDIDATES = ("tiny", "small", "middle", "large", "huge")
COST_USD = np.array([0.0001, 0.0004, 0.001, 0.004, 0.02])
N_WORDS = 50_000
N_PROCESSORS = len(os.sched_getaffinity(0))
FOLDER = "LLM_ROUTER_SCALE_FOLDER"


@dataclass(frozen=True)
class Measurement:
    """Something whose growth is measured.

    Args:
        name: Name in the report.
        kind: "estimator" for the fit of an estimator by default, else what it is.
        prepare: Function from a number of rows to the call that is measured.
        sizes: Numbers of rows.
        quick: Numbers of rows with `--quick`.
        make: Function that makes the files of so many rows beforehand.
    """

    name: str
    kind: str
    prepare: Callable[[int], Callable[[], object]]
    sizes: tuple[int, ...] = (10_000, 100_000)
    quick: tuple[int, ...] = (1_000, 3_000)
    make: Callable[[int], object] | None = None


def fitted_estimator(name: str) -> Callable[[int], Callable[[], object]]:
    def prepare(n: int) -> Callable[[], object]:
        from langchain_llm_router import estimators

        data = make_rows(n)
        return lambda: getattr(estimators, name)().fit(data)

    return prepare


def fitted_router(n: int) -> Callable[[], object]:
    from langchain_llm_router.training import fit_router

    data = make_rows(n)
    return lambda: fit_router(data)


def decided_again(policy: str) -> Callable[[int], Callable[[], object]]:
    """Replay of a log of one-shot decisions or of cascades, with as many workers as processors."""

    def prepare(n: int) -> Callable[[], object]:
        from langchain_llm_router.policies import ConfidenceThreshold, Utility

        by_name = {"Utility": Utility(cost=40.0), "ConfidenceThreshold": ConfidenceThreshold()}

        def replayed() -> object:
            try:
                from langchain_llm_router.evaluation import off_policy_of_logs
            except ImportError:  # before logs were streamed
                from langchain_llm_router.evaluation import off_policy
                from langchain_llm_router.history import read_log

                return off_policy(read_log(made("log", policy, n)), by_name[policy])
            workers = N_PROCESSORS if n >= 20_000 else 1
            log = made("log", policy, n)
            return off_policy_of_logs([log], by_name[policy], n_workers=workers)

        return replayed

    return prepare


def evaluated(n: int) -> Callable[[], object]:
    """A saved router on a table of recorded rows, from reading the file to the report."""
    saved = small_router()

    def report() -> object:
        from langchain_llm_router.evaluation import Exam
        from langchain_llm_router.training import load_data

        return Exam.of(saved, load_data(made("table", "", n))).report()

    return report


def refitted(n: int) -> Callable[[], object]:
    """Nearest neighbors, which keep their rows, on the feedback in a log; every tenth has one."""
    saved = small_router()

    def refit() -> object:
        from langchain_llm_router import history

        read = getattr(history, "stream_log", history.read_log)
        rows = history.scored_rows(read(made("log", "Utility", n)), CANDIDATES)
        return history.refit(saved.estimator, rows)

    return refit


def small_router():
    from langchain_llm_router.estimators import NearestNeighbors
    from langchain_llm_router.policies import Utility
    from langchain_llm_router.router.saved_router import SavedRouter

    estimator = NearestNeighbors().fit(make_rows(1_000, seed=1))
    return SavedRouter(CANDIDATES, Utility(cost=40.0), estimator)


def made(kind: str, policy: str, n: int) -> Path:
    """A file of rows, made by another process, whose memory is not measured."""
    path = Path(os.environ[FOLDER]) / f"scale-{kind}{policy}-{n}.jsonl"
    if not path.exists():
        make = [sys.executable, __file__, "--make", kind, policy, str(n), str(path)]
        subprocess.run(make, check=True)
    return path


def make_file(kind: str, policy: str, n: int, path: Path) -> None:
    part = path.with_suffix(f".{os.getpid()}")
    if kind == "table":
        with part.open("w") as file:
            for seed in range(-(-n // 10_000)):
                for row in make_rows(min(10_000, n - seed * 10_000), seed=seed + 2).to_rows():
                    file.write(json.dumps(row) + "\n")
    else:
        make_log(policy, n, part)
    part.rename(path)


def make_log(policy: str, n: int, path: Path) -> None:
    """A log as a live router writes it; after 10,000 requests the same ones have other ids."""
    from langchain_llm_router.history import DecisionLog
    from langchain_llm_router.history.log_entries import build_entry

    rows = make_rows(min(n, 10_000), seed=3)
    path.with_suffix(".once").unlink(missing_ok=True)
    log = DecisionLog(path.with_suffix(".once"), most_waiting=20_000)
    for i, query in enumerate(rows.queries):
        loop = one_loop(policy, query, rows, i)
        facts = {
            "decision_id": f"<{i:06}>", "run_id": f"run-{i:06}", "propensity": 1.0,
            "candidate": loop.steps[-1].candidate, "cost_usd": loop.situation.spent_usd,
        }  # fmt: skip
        log.append(build_entry(query, loop, facts, outcome="answered"))
    log.flush(600)
    lines = log.path.read_bytes().splitlines(keepends=True)
    log.path.unlink()
    column = {name: j for j, name in enumerate(CANDIDATES)}
    with path.open("wb") as file:
        for i in range(n):
            k = i % len(lines)
            file.write(lines[k].replace(b"<%06d>" % k, b"id-%028d" % i, 1))
            if i % 10 == 0:
                name = json.loads(lines[k])["candidate"]
                score = float(rows.quality[k, column[name]])
                line = {"kind": "feedback", "decision_id": f"id-{i:028}", "score": score,
                        "key": "user", "at_s": 0.0}  # fmt: skip
                file.write(json.dumps(line).encode() + b"\n")


def one_loop(policy: str, query: str, rows, i: int):
    """The decisions of one request and the answers to them."""
    from langchain_llm_router.loop.arms import begin
    from langchain_llm_router.loop.loop import Loop
    from langchain_llm_router.policies import ConfidenceThreshold, Utility
    from langchain_llm_router.types import Arm, Attempt

    rng = np.random.default_rng(i)
    expected = COST_USD * len(query.split()) / 40
    cascade = policy == "ConfidenceThreshold"
    guesses = rng.random(len(CANDIDATES)).tolist()
    arms = [
        Arm(name, quality=None if cascade else q, cost_usd=usd)
        for name, q, usd in zip(CANDIDATES, guesses, expected.tolist(), strict=True)
    ]
    loop = Loop(ConfidenceThreshold() if cascade else Utility(cost=40.0), begin(query, arms))
    while not (step := loop.next()).ends:
        j = CANDIDATES.index(step.candidate)
        attempt = Attempt(
            candidate=step.candidate, error=None, form="text",
            cost_usd=float(rows.cost_usd[i, j]), input_tokens=60, output_tokens=200,
            latency_s=1.25, ttft_s=0.25, finished_at_s=1.7e9,
        )  # fmt: skip
        if step.action == "verify":
            verdicts = (rng.random(8) < (0.2, 0.8)[int(rows.quality[i, j])]).tolist()
            attempt |= {"verified": True, "verdicts": verdicts, "confidence": sum(verdicts) / 8,
                        "verification_cost_usd": 1e-5}  # fmt: skip
        loop.saw(attempt)
    return loop


ESTIMATORS = (
    "NearestNeighbors", "Clusters", "Linear", "BradleyTerry", "MatrixFactorization", "Ensemble",
)  # fmt: skip
# Numbers of rows with `--quick`, where those of the others would take long.
SMALLER = {"MatrixFactorization": (100, 200), "Ensemble": (1_000, 2_000)}
MEASUREMENTS = (
    *(
        Measurement(
            name, "estimator", fitted_estimator(name), quick=SMALLER.get(name, (1_000, 3_000))
        )
        for name in ESTIMATORS
    ),
    Measurement("fit_router", "fit", fitted_router, quick=(1_000, 2_000)),
    Measurement(
        "replay", "replay", decided_again("Utility"), (10_000, 1_000_000),
        make=lambda n: made("log", "Utility", n),
    ),
    Measurement(
        "replay of cascades", "cascades", decided_again("ConfidenceThreshold"), quick=(),
        make=lambda n: made("log", "ConfidenceThreshold", n),
    ),
    Measurement("evaluate", "evaluate", evaluated, make=lambda n: made("table", "", n)),
    Measurement("refit", "refit", refitted, make=lambda n: made("log", "Utility", n)),
)  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    parser.add_argument("--quick", action="store_true", help="small sizes, under 90 s")
    parser.add_argument("--only", nargs="+", help="names of measurements", default=None)
    parser.add_argument("--rows", type=int, nargs="+", help="numbers of rows, for all of them")
    parser.add_argument("--package", type=Path, default=ROOT, help="checkout to measure")
    parser.add_argument("--folder", type=Path, help="keep the made files here and reuse them")
    parser.add_argument("--limit_s", type=float, default=1800.0, help="seconds for one size")
    parser.add_argument("--one", nargs=2, metavar=("NAME", "ROWS"), help=argparse.SUPPRESS)
    parser.add_argument("--make", nargs=4, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    sys.path.insert(0, str(chosen.package))
    if chosen.make is not None:
        kind, policy, n, path = chosen.make
        make_file(kind, policy, int(n), Path(path))
        return
    if chosen.one is not None:
        print(json.dumps(measure(by_name()[chosen.one[0]], int(chosen.one[1]))))
        return
    with tempfile.TemporaryDirectory() as folder:
        os.environ[FOLDER] = str(chosen.folder or folder)
        found = measured(chosen)
    print(as_markdown(found))
    if chosen.json:
        print(json.dumps({**summary(found), "measurements": found}))


def measured(chosen: argparse.Namespace) -> list[dict]:
    found = []
    for measurement in MEASUREMENTS:
        if chosen.only is None or measurement.name in chosen.only:
            sizes = chosen.rows or (measurement.quick if chosen.quick else measurement.sizes)
            for n in sizes:
                found.append(measured_apart(measurement, n, chosen.package, chosen.limit_s))
                print(found[-1], file=sys.stderr)
    return found


def by_name() -> dict[str, Measurement]:
    return {measurement.name: measurement for measurement in MEASUREMENTS}


def measure(measurement: Measurement, n: int) -> dict:
    """Seconds of the call, and the highest memory of this process and of those that it starts."""
    import resource

    call = measurement.prepare(n)
    start, begun = time.process_time(), time.perf_counter()
    call()
    seconds, wall_s = time.process_time() - start, time.perf_counter() - begun
    workers = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds += workers.ru_utime + workers.ru_stime
    # Kilobytes, but on macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    # As if each worker had its highest memory at the same time.
    peak += N_PROCESSORS * workers.ru_maxrss * unit
    return {
        "name": measurement.name,
        "kind": measurement.kind,
        "rows": n,
        "cpu_s": round(seconds, 3),
        "wall_s": round(wall_s, 3),
        "peak_mb": round(peak / 1e6),
    }


def measured_apart(measurement: Measurement, n: int, package: Path, limit_s: float) -> dict:
    """The same in a process of its own; None where it takes longer than the limit or fails."""
    if measurement.make is not None:
        measurement.make(n)
    apart = ["--package", str(package), "--one", measurement.name, str(n)]
    nothing = {"name": measurement.name, "kind": measurement.kind, "rows": n, "cpu_s": None,
               "wall_s": None, "peak_mb": None}  # fmt: skip
    try:
        done = subprocess.run(
            [sys.executable, __file__, *apart],
            stdout=subprocess.PIPE,
            text=True,
            timeout=limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return nothing
    return nothing if done.returncode != 0 else json.loads(done.stdout.splitlines()[-1])


def make_rows(n: int, seed: int = 0):
    """Rows whose quality depends on their words."""
    from langchain_llm_router.data import Outcomes

    rng = np.random.default_rng(seed)
    share = np.cumsum(1 / np.arange(1, N_WORDS + 1))
    lengths = np.clip(np.exp(rng.normal(math.log(40), 0.7, n)), 5, 300).astype(int)
    drawn = np.searchsorted(share, rng.random(lengths.sum()) * share[-1])
    ends = np.cumsum(lengths)
    words = made_words(rng)
    texts = [
        " ".join([words[i] for i in part.tolist()]) + "?" for part in np.split(drawn, ends[:-1])
    ]
    # The commonest words say nothing, as in a language.
    hardness = rng.normal(0, 1, N_WORDS) * (np.arange(N_WORDS) >= 50)
    starts, scale = ends - lengths, np.sqrt(lengths)
    hard = np.add.reduceat(hardness[drawn], starts) / scale
    odds = np.empty((n, len(CANDIDATES)))
    for j, skill in enumerate(np.linspace(-0.5, 2.0, len(CANDIDATES))):
        taste = np.add.reduceat(rng.normal(0, 1, N_WORDS)[drawn], starts) / scale
        odds[:, j] = skill - 1.5 * hard + taste
    quality = rng.random(odds.shape) < 1 / (1 + np.exp(-odds))
    cost = COST_USD * (lengths[:, None] / 40) * rng.uniform(0.5, 1.5, odds.shape)
    return Outcomes(texts, CANDIDATES, quality, cost)


def made_words(rng: np.random.Generator) -> list[str]:
    """Distinct words of 4 to 11 letters; the commonest are the shortest."""
    letters = np.array(list("etaoinshrdlucmfwypvbgkjqxz"))
    found: dict[str, None] = {}
    while len(found) < N_WORDS:
        size = 4 + int(8 * len(found) / N_WORDS)
        found["".join(rng.choice(letters[: 10 + size], size))] = None
    return list(found)


def exponent(found: list[dict]) -> float | None:
    """Growth of CPU seconds from the smallest to the largest size; None if one is unknown."""
    ordered = sorted(found, key=lambda it: it["rows"])
    if len(ordered) < 2 or any(it["cpu_s"] is None for it in ordered):
        return None
    (n, seconds), (most, longest) = [(it["rows"], it["cpu_s"]) for it in (ordered[0], ordered[-1])]
    return round(math.log(longest / max(seconds, 1e-9)) / math.log(most / n), 3)


def exponents(found: list[dict]) -> dict[str, float | None]:
    names = dict.fromkeys(it["name"] for it in found)
    return {name: exponent([it for it in found if it["name"] == name]) for name in names}


def summary(found: list[dict]) -> dict:
    """The figures that are compared; None for what was not measured."""
    at_100k = [it for it in found if it["kind"] == "estimator" and it["rows"] == 100_000]
    seconds = [it["cpu_s"] for it in at_100k]
    megabytes = [it["peak_mb"] for it in at_100k]
    # Below, other methods are taken, and what takes a constant time hides how the rest grows.
    grown = list(exponents([it for it in found if it["rows"] >= 10_000]).values())
    replayed = [it["cpu_s"] for it in found if it["kind"] == "replay" and it["rows"] == 1_000_000]
    return {
        "largest_exponent": None if None in grown else max(grown, default=None),
        "fit_100k_s": None if None in seconds else max(seconds, default=None),
        "fit_100k_mb": None if None in megabytes else max(megabytes, default=None),
        "replay_1m_s": round(replayed[0] / N_PROCESSORS, 3) if replayed and replayed[0] else None,
    }


def as_markdown(found: list[dict]) -> str:
    """A table with a row per measurement; a dash for what took too long."""
    sizes = sorted({it["rows"] for it in found})
    lines = [
        "| CPU seconds, MB | " + " | ".join(f"{n:,} rows" for n in sizes) + " | exponent |",
        "| --- |" + " --- |" * (len(sizes) + 1),
    ]
    cells = {
        (it["name"], it["rows"]): "–"
        if it["cpu_s"] is None
        else f"{it['cpu_s']:.1f} s, {it['peak_mb']:,} MB"
        for it in found
    }
    for name, grown in exponents(found).items():
        shown = " | ".join(cells.get((name, n), "") for n in sizes)
        lines.append(f"| {name} | {shown} | {'' if grown is None else f'{grown:.2f}'} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
