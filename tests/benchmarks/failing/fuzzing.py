"""Whatever is fed in: the documented errors, or an answer; never another crash.

Run by `faults.py --fuzz N` and, in small, by the test suite. Each target takes hypothesis data.
"""

import contextlib
import json
import math
import multiprocessing
import sys
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from tqdm import tqdm

from langchain_llm_router.data import Battles, Outcomes, SelfEvaluations
from langchain_llm_router.data.artifacts import read_artifact
from langchain_llm_router.estimators import Constant, NearestNeighbors
from langchain_llm_router.live import Telemetry
from langchain_llm_router.loop.arms import begin
from langchain_llm_router.loop.loop import Loop, next_decision, observe
from langchain_llm_router.loop.record import decision_record
from langchain_llm_router.policies import ConfidenceThreshold, Utility
from langchain_llm_router.policies.observation import BetaBinomial, KernelDensity
from langchain_llm_router.types import Arm, Attempt, Candidate, RoutingOptions
from langchain_llm_router.types.errors import LlmRouterError
from langchain_llm_router.verification import Case, Reply, SelfEvaluator, Verdict

DOCUMENTED = (LlmRouterError, ValueError, TypeError)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=10,
)
MAYBE = st.none() | st.floats(allow_nan=True) | st.floats(0, 1)


def options(data) -> None:
    """Options from a request: a mapping or a line of any kind."""
    keys = st.sampled_from(
        ["force", "candidates", "threshold", "lambda", "weights", "max_cost_usd", "filters",
         "sticky", "nonsense"]
    )  # fmt: skip
    given = data.draw(st.dictionaries(keys, JSON, max_size=4) | JSON | _line())
    parsed = RoutingOptions.parse(given)
    arms = [Arm("small", 0.5, 0.001, 0.1, 0.01), Arm("large", 0.9, 0.01, 0.2, 0.01)]
    next_decision(Utility(cost=1.0), begin("q", arms, parsed))


def _line():
    parts = st.sampled_from(["q:1", "c:4e-3", "itl<20", "models:a,b", "t:nan", "x", ":", "c:", "<"])
    return st.lists(parts | st.text(max_size=6), max_size=5).map(lambda p: "router@" + "|".join(p))


def records(data) -> None:
    """What candidates and verifiers may leave in an attempt, through a whole routing."""
    arms = [
        Arm(n, data.draw(st.floats(0, 1)), data.draw(st.none() | st.floats(0, 1))) for n in "abc"
    ]
    verified = data.draw(st.booleans())
    policy = ConfidenceThreshold(threshold=0.7) if verified else Utility()
    loop = Loop(policy, begin(data.draw(st.text(max_size=20)), arms))
    while (step := loop.next()) is not None and step.action != "accept":
        attempt = Attempt(
            candidate=step.candidate, error=data.draw(st.none() | st.text(max_size=9))
        )
        attempt["cost_usd"] = data.draw(st.none() | st.floats(0, 1))
        if step.action == "verify":
            confidence = data.draw(st.none() | st.floats(0, 1))
            attempt |= {"error": None, "verified": True, "confidence": confidence}
        loop.saw(attempt)
    if step is not None:
        json.dumps(decision_record(loop.steps, loop.situation, "id"))
        step.explain()


def artifacts(data) -> None:
    """A folder from a stranger: any manifest, any bytes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if data.draw(st.booleans()):
            outcomes = Outcomes(["a", "b"], ("x", "y"), [[0, 1], [1, 0.5]])
            kind = data.draw(st.sampled_from([Constant(), NearestNeighbors(n_neighbors=1)]))
            kind.fit(outcomes).save(folder)
            manifest = json.loads((folder / "manifest.json").read_text())
            keys = data.draw(st.lists(st.sampled_from(sorted(manifest)), max_size=2))
            for key in keys:
                manifest[key] = data.draw(JSON)
            if isinstance(manifest.get("settings"), dict) and data.draw(st.booleans()):
                inner = data.draw(st.sampled_from(sorted(manifest["settings"]) or ["x"]))
                manifest["settings"][inner] = data.draw(JSON)
            (folder / "manifest.json").write_text(json.dumps(manifest))
            if data.draw(st.booleans()):
                path = folder / "arrays.npz"
                content = bytearray(path.read_bytes())
                content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(
                    st.integers(1, 255)
                )
                path.write_bytes(content)
        else:
            (folder / "manifest.json").write_bytes(data.draw(st.binary(max_size=200)))
            (folder / "arrays.npz").write_bytes(data.draw(st.binary(max_size=200)))
        read_artifact(folder)
        for kind in (Constant, NearestNeighbors):
            kind.load(folder).predict(["q"])


def tables(data) -> None:
    """Data sets from a stranger: any lines."""
    rows = st.fixed_dictionaries(
        {}, optional={k: JSON for k in ("query", "group", "quality", "cost_usd", "score_a")}
    )  # fmt: skip
    given = data.draw(st.lists(rows, max_size=4))
    numbers = st.lists(st.floats(), max_size=2)
    with contextlib.suppress(*DOCUMENTED):
        Outcomes.from_rows(given)
    with contextlib.suppress(*DOCUMENTED):
        Battles(["a"], ["x"], ["y"], data.draw(numbers))
    with contextlib.suppress(*DOCUMENTED):
        SelfEvaluations(("x",), [data.draw(numbers)])
    lines = data.draw(st.lists(rows.map(json.dumps) | st.text(max_size=30), max_size=4))
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "rows.jsonl"
        path.write_text("\n".join(lines), encoding="utf-8", errors="surrogatepass")
        Outcomes.load(path)


def verdicts(data) -> None:
    """Replies of a judge: parsed or not, of any kind."""
    texts = st.text(max_size=40)
    answer = AIMessage(data.draw(texts))
    case = Case(
        [SystemMessage(data.draw(texts)), HumanMessage(data.draw(texts))], answer, Candidate("a")
    )
    verifier = SelfEvaluator(n_samples=data.draw(st.integers(1, 4)))
    steps = verifier.evaluate(case)
    calls = next(steps)
    good = st.builds(Verdict, rationale=texts, verdict=st.sampled_from(["Correct", "Incorrect"]))
    replies = [
        Reply(AIMessage(data.draw(texts)), data.draw(JSON | good), data.draw(st.none() | texts))
        for _ in calls
    ]
    try:
        steps.send(replies)
    except StopIteration as stop:
        evaluation = stop.value
        assert evaluation.confidence is None or 0 <= evaluation.confidence <= 1


def observations(data) -> None:
    """Scores of any kind, read by an observation model."""
    scores = data.draw(st.lists(st.floats(0, 1) | st.just(float("nan")), min_size=1, max_size=12))
    good = data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores)))
    model = data.draw(st.sampled_from([KernelDensity(), BetaBinomial(4)]))
    p = model.fit(scores, good).p_good(
        data.draw(MAYBE), prior=data.draw(st.none() | st.floats(0, 1))
    )
    assert np.isfinite(p)
    assert -1e-9 <= p <= 1 + 1e-9


def snapshots(data) -> None:
    """A telemetry snapshot from a stranger."""
    telemetry = Telemetry()
    telemetry.began("a").answered(3)
    telemetry.began("a").failed("error")
    state = telemetry.state()
    arm = state["arms"]["a"]
    for key in data.draw(st.lists(st.sampled_from(sorted(arm)), max_size=3)):
        arm[key] = data.draw(JSON)
    fresh = Telemetry()
    fresh.restore(state)
    fresh.look(["a"])
    fresh.began("a").answered(1)


def observing(data) -> None:
    """Attempts in any order, by anybody."""
    arms = [Arm(n, 0.5, 0.01) for n in ("m@x", "m@y", "s")]
    seen = begin("q", arms)
    for _ in range(data.draw(st.integers(0, 4))):
        name = data.draw(st.sampled_from(["m@x", "m@y", "s"]))
        error = data.draw(st.none() | st.text(max_size=4))
        seen = observe(seen, Attempt(candidate=name, error=error, cost_usd=0.0))
    next_decision(Utility(), seen)


# Of the cases, how many go where; fitting an observation model takes three times as long.
TARGETS = {
    options: 0.20, records: 0.15, artifacts: 0.15, tables: 0.12, verdicts: 0.15,
    observations: 0.03, snapshots: 0.10, observing: 0.10,
}  # fmt: skip
PIECE = 500


def fuzz(n: int, processes: int = 1) -> dict:
    """Run at least `n` cases over all targets; what is not documented is listed."""
    jobs = []
    for target, share in TARGETS.items():
        left, seed = math.ceil(n * share), 0
        while left > 0:
            jobs.append((target.__name__, min(left, PIECE), seed))
            left, seed = left - PIECE, seed + 1
    if processes == 1:
        found = [_piece(job) for job in jobs]
    else:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        with context.Pool(processes, maxtasksperchild=20) as pool:
            bar = tqdm(pool.imap_unordered(_piece, jobs), "fuzz", total=len(jobs), mininterval=5)
            found = []
            for piece in bar:
                found.append(piece)
                for crash in piece["crashes"]:
                    tqdm.write(crash, file=sys.stderr)
    return {
        "cases": sum(one["cases"] for one in found),
        "refused_with_a_documented_error": sum(one["refused"] for one in found),
        "crashes": sorted({crash for one in found for crash in one["crashes"]}),
    }


def _piece(job: tuple[str, int, int]) -> dict:
    name, n, seed_ = job
    target = next(one for one in TARGETS if one.__name__ == name)
    counts: dict = {"cases": 0, "refused": 0, "crashes": []}
    try:
        _cases(target, n, seed_, counts)
    except Exception as error:  # noqa: BLE001 - this is what is looked for
        counts["crashes"].append(f"{name}: {type(error).__name__}: {error}"[:300])
    return counts


def _cases(target, n: int, seed_: int, counts: dict) -> None:
    @seed(seed_)
    @settings(
        max_examples=n, deadline=None, database=None,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.data())
    def run(data) -> None:
        counts["cases"] += 1
        try:
            target(data)
        except DOCUMENTED:
            counts["refused"] += 1

    run()
