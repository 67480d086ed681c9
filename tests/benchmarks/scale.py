"""How CPU time and memory grow with the number of rows: fitting each estimator, and `fit` whole.

    python tests/benchmarks/scale.py --json                   # 10,000 and 100,000 rows
    python tests/benchmarks/scale.py --json --quick           # small sizes, under 90 s
    python tests/benchmarks/scale.py --only Linear --rows 1000 4000 --package /another/checkout

Data: made rows, from a seed. Texts of 5 to 300 words (median 40) from 50,000 words, of which the
r-th occurs about 1/r as often as the first; some words are hard, and five candidates, the better
the dearer, fail on hard texts. Every measurement is made in a process of its own, which reports the
CPU seconds of the measured call alone, and its highest memory with Python, libraries and data. The
growth exponent is that of CPU seconds from the smallest to the largest size: 1 is linear.
"""

import argparse
import json
import math
import os
import subprocess
import sys
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


@dataclass(frozen=True)
class Measurement:
    """Something whose growth is measured.

    Args:
        name: Name in the report.
        kind: "estimator" for the fit of an estimator by default, else what it is.
        prepare: Function from a number of rows to the call that is measured.
        sizes: Numbers of rows.
        quick: Numbers of rows with `--quick`.
    """

    name: str
    kind: str
    prepare: Callable[[int], Callable[[], object]]
    sizes: tuple[int, ...] = (10_000, 100_000)
    quick: tuple[int, ...] = (1_000, 3_000)


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


ESTIMATORS = (
    "NearestNeighbors", "Clusters", "Linear", "BradleyTerry", "MatrixFactorization", "Ensemble",
)  # fmt: skip
# Numbers of rows with `--quick`, where those of the others would take long.
SMALLER = {"MatrixFactorization": (500, 1_000), "Ensemble": (1_000, 2_000)}
MEASUREMENTS = (
    *(
        Measurement(
            name, "estimator", fitted_estimator(name), quick=SMALLER.get(name, (1_000, 3_000))
        )
        for name in ESTIMATORS
    ),
    Measurement("fit_router", "fit", fitted_router, quick=(1_000, 2_000)),
)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true", help="print one JSON object last")
    parser.add_argument("--quick", action="store_true", help="small sizes, under 90 s")
    parser.add_argument("--only", nargs="+", help="names of measurements", default=None)
    parser.add_argument("--rows", type=int, nargs="+", help="numbers of rows, for all of them")
    parser.add_argument("--package", type=Path, default=ROOT, help="checkout to measure")
    parser.add_argument("--limit_s", type=float, default=1800.0, help="seconds for one size")
    parser.add_argument("--one", nargs=2, metavar=("NAME", "ROWS"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    sys.path.insert(0, str(chosen.package))
    if chosen.one is not None:
        print(json.dumps(measure(by_name()[chosen.one[0]], int(chosen.one[1]))))
        return
    found = []
    for measurement in MEASUREMENTS:
        if chosen.only is None or measurement.name in chosen.only:
            sizes = chosen.rows or (measurement.quick if chosen.quick else measurement.sizes)
            for n in sizes:
                found.append(measured_apart(measurement, n, chosen.package, chosen.limit_s))
                print(found[-1], file=sys.stderr)
    print(as_markdown(found))
    if chosen.json:
        print(json.dumps({**summary(found), "measurements": found}))


def by_name() -> dict[str, Measurement]:
    return {measurement.name: measurement for measurement in MEASUREMENTS}


def measure(measurement: Measurement, n: int) -> dict:
    """CPU seconds of the call, and the highest memory of this process."""
    import resource

    call = measurement.prepare(n)
    start = time.process_time()
    call()
    seconds = time.process_time() - start
    # Kilobytes, but on macOS bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return {
        "name": measurement.name,
        "kind": measurement.kind,
        "rows": n,
        "cpu_s": round(seconds, 3),
        "peak_mb": round(peak / 1e6),
    }


def measured_apart(measurement: Measurement, n: int, package: Path, limit_s: float) -> dict:
    """The same in a process of its own; None where it takes longer than the limit or fails."""
    apart = ["--package", str(package), "--one", measurement.name, str(n)]
    nothing = {"name": measurement.name, "kind": measurement.kind, "rows": n, "cpu_s": None,
               "peak_mb": None}  # fmt: skip
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
    grown = list(exponents(found).values())
    replayed = [it["cpu_s"] for it in found if it["kind"] == "replay" and it["rows"] == 1_000_000]
    return {
        "largest_exponent": None if None in grown else max(grown, default=None),
        "fit_100k_s": None if None in seconds else max(seconds, default=None),
        "fit_100k_mb": None if None in megabytes else max(megabytes, default=None),
        "replay_1m_s": replayed[0] if replayed else None,
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
