"""A policy of one's own is saved, calibrated, explained, drawn and served as the house's are."""

import json
import sys
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import import_module

import httpx
import numpy as np
import pytest

from examples.extend import ByLength, CheapestGoodEnough
from langchain_llm_router import Candidate, ChatLLMRouter
from langchain_llm_router.data.artifacts import Artifact, write_artifact
from langchain_llm_router.estimators import NearestNeighbors
from langchain_llm_router.evaluation import Exam, explain, knob_of, replay, spans
from langchain_llm_router.policies import (
    Always,
    ConfidenceThreshold,
    FittedPolicy,
    FrugalCascade,
    Knob,
    OneShot,
    Policy,
    Pomdp,
    SafeArm,
    Threshold,
    Utility,
)
from langchain_llm_router.policies.observation import KernelDensity
from langchain_llm_router.router.saved_router import SavedRouter
from langchain_llm_router.training import calibrate
from langchain_llm_router.types import Arm, Attempt, Situation
from langchain_llm_router.types.errors import ArtifactError, CalibrationError, NotFittedError
from langchain_llm_router.types.options import RoutingOptions
from tests.support.fakes import ScriptedModel, make_evaluations, make_outcomes
from tests.support.uvicorn_server import create_app

TRAIN, TEST = make_outcomes(n=120, seed=1), make_outcomes(n=200, seed=2)
COSTS = dict(zip(TRAIN.candidates, TRAIN.mean_cost_usd.tolist(), strict=True))
BAR = CheapestGoodEnough(bar=0.6)


def router(policy: Policy = BAR) -> SavedRouter:
    estimator = NearestNeighbors(n_neighbors=9).fit(TRAIN)
    return SavedRouter(TRAIN.candidates, policy, estimator, expected_cost_usd=COSTS)


def arms(*qualities: float) -> Situation:
    costs = (0.001, 0.01, 0.1)
    rows = zip(TRAIN.candidates, qualities, costs, strict=False)
    return Situation("q", tuple(Arm(name, q, c) for name, q, c in rows))


# The policy of examples/extend.py


def test_it_is_saved_and_loaded(tmp_path):
    folder = BAR.save(tmp_path / "it")
    assert Policy.load(folder) == CheapestGoodEnough.load(folder) == BAR
    with pytest.raises(ArtifactError, match="not a known 'Threshold'"):
        Threshold.load(folder)


def test_it_is_saved_and_loaded_inside_a_router_with_an_estimator_of_one_s_own(tmp_path):
    estimator = ByLength().fit(TRAIN)
    SavedRouter(TRAIN.candidates, SafeArm(BAR, "large"), estimator).save(tmp_path / "it")
    loaded = SavedRouter.load(tmp_path / "it")
    assert loaded.policy == SafeArm(BAR, "large")
    np.testing.assert_allclose(loaded.estimator.predict(["x"]), estimator.predict(["x"]))


def test_it_is_calibrated_to_a_target():
    found = calibrate(router(), TEST, target="quality >= 0.9 * best")
    assert type(found.policy) is CheapestGoodEnough
    assert found.policy.bar == found.knob
    assert 0 < found.knob <= 1
    done = replay(found.policy, router().predict(TEST.queries), TEST)
    assert done.mean_cost_usd < TEST.mean_cost_usd[-1]


def test_it_is_explained_at_every_setting_of_its_own_knob():
    seen = arms(0.4, 0.65, 0.9)
    assert knob_of(BAR, seen) == Knob("bar", 0.6, high=1.0, more="better and dearer answers")
    small, medium, large = spans(BAR, seen)
    assert (small.candidate, small.low, small.high) == ("small", 0, pytest.approx(0.4, abs=1e-9))
    assert (medium.candidate, medium.high) == ("medium", pytest.approx(0.65, abs=1e-9))
    assert (large.candidate, large.high) == ("large", None)


def test_the_options_of_a_request_turn_no_knob_of_another_name():
    seen = Situation("q", arms(0.4, 0.65, 0.9).arms, options=RoutingOptions(lambda_=9, threshold=1))
    assert knob_of(BAR, seen).value == 0.6
    assert len(spans(BAR, seen)) == 3


def test_its_explanation_is_text_data_and_a_picture(tmp_path):
    plots = pytest.importorskip("langchain_llm_router.plots")
    pytest.importorskip("matplotlib")
    queries = (explain(router(), query) for query in TEST.queries)
    told = next(it for it in queries if len(it.steps[0].spans) > 1)
    assert "    bar, now 0.6: ask " in told.text()
    knob = json.loads(json.dumps(told.as_dict()))["steps"][0]["knob"]
    assert (knob["name"], knob["value"], knob["low"], knob["high"]) == ("bar", 0.6, 0.0, 1.0)
    figure = plots.explanation(told)
    assert "choice by bar" in [ax.get_title(loc="left") for ax in figure.axes]
    assert plots.save(figure, tmp_path / "why.png").stat().st_size > 10_000


def test_its_cost_quality_curve_is_drawn():
    plots = pytest.importorskip("langchain_llm_router.plots")
    pytest.importorskip("matplotlib")
    figures = plots.router_figures(Exam.of(router(), TEST))
    (ax, *_) = figures["cost_quality"]().axes
    curve = max((line.get_xdata() for line in ax.lines), key=len)
    assert len(set(curve)) > 3
    # And without a knob, or where λ has nothing to weigh, there is a picture without a curve.
    alike = replace(TEST, cost_usd=np.full_like(TEST.quality, 0.01))
    for policy, rows in ((Always("small"), TEST), (Utility(cost=2.0), alike)):
        assert plots.router_figures(Exam.of(router(policy), rows))["cost_quality"]()


@pytest.mark.parametrize(
    ("policy", "heeds"), [(BAR, False), (Threshold(0.5), False), (Utility(cost=2.0), True)]
)
async def test_it_is_served_and_the_slider_of_the_page_does_not_break_it(policy, heeds):
    pool = [Candidate(n, ScriptedModel(f"{n} says"), expected_cost_usd=COSTS[n]) for n in COSTS]
    live = ChatLLMRouter(candidates=pool, policy=policy, estimator=router().estimator)
    transport = httpx.ASGITransport(create_app(live))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        for body in ({"question": "prove it"}, {"question": "prove it", "lambda": 1e5}):
            choices = (await client.post("/live/choices", json=body)).json()
            assert choices["heeds_lambda"] is heeds
            assert choices["lambda"] == (2.0 if heeds else None)
            assert "event: answer" in (await client.post("/live/ask", json=body)).text


# Policies of other shapes


@dataclass(frozen=True)
class Ordered(OneShot):
    """Its fields are of every kind that is saved."""

    order: tuple[str, ...] = ("large", "small")
    limits: dict[str, tuple[float, float]] = field(default_factory=lambda: {"a": (0.0, 1.0)})
    names: list[str] = field(default_factory=lambda: ["x"])
    inner: Policy = field(default_factory=lambda: SafeArm(Threshold(0.3), "small"))
    rate: float | None = None
    live: object = None

    def choose(self, situation):
        return self.ask(self.order[0], "the first in order")


@dataclass(eq=False)
class Learned(FittedPolicy, OneShot):
    """Asks the candidate that was best on the training rows, at a cost of `weight` each."""

    weight: float = 0.0

    @property
    def knob(self):
        return Knob("weight", self.weight)

    def fit(self, outcomes):
        self.candidates_ = tuple(outcomes.candidates)
        self.mean_ = outcomes.quality.mean(axis=0)
        return self

    def choose(self, situation):
        self._check_fitted()
        worth = self.mean_ - self.weight * np.arange(len(self.mean_))
        return self.ask(self.candidates_[int(worth.argmax())], "best so far")

    def _settings(self):
        return {"candidates": list(self.candidates_)}

    def _arrays(self):
        return {"mean": self.mean_}

    def _restore(self, settings, arrays):
        self.candidates_, self.mean_ = tuple(settings["candidates"]), arrays["mean"]


def test_fields_come_back_as_they_were(tmp_path):
    assert Policy.load(Ordered(rate=np.float64(0.5)).save(tmp_path / "it")) == Ordered(rate=0.5)


@pytest.mark.parametrize("value", [object(), {1: 2}, {"a"}, float("inf")])
def test_a_field_that_cannot_be_saved_is_named(tmp_path, value):
    with pytest.raises(ArtifactError, match="Ordered cannot be saved: its field 'live' holds"):
        Ordered(live=value).save(tmp_path / "it")


def test_a_fitted_policy_of_one_s_own_is_fitted_turned_saved_and_loaded(tmp_path):
    with pytest.raises(NotFittedError, match=r"Learned is not fitted: call `fit\("):
        Learned().save(tmp_path / "it")
    policy = Learned().fit(TRAIN)
    assert policy.named_candidates == TRAIN.candidates
    turned = policy.with_knob(5.0)
    assert (policy.weight, turned.weight) == (0.0, 5.0)
    assert policy.decide(arms(0.1, 0.1, 0.1)).candidate == "large"
    loaded = SavedRouter(TRAIN.candidates, turned).save(tmp_path / "router")
    again = SavedRouter.load(loaded).policy
    assert again.decide(arms(0.1, 0.1, 0.1)).candidate == "small"
    # Its range has no upper end: settings are tried around the present one.
    values = turned.knob_values()
    assert values == sorted(values)
    assert values[0] == 0.0 < 5.0 < values[-1]
    assert [span.candidate for span in spans(turned, arms(0.1, 0.1, 0.1))][-1] == "small"


def test_a_policy_without_a_knob_says_so():
    for turn in (Always("small").with_knob, lambda _: Always("small").knob_values()):
        with pytest.raises(ValueError, match="Always has no knob"):
            turn(0.5)
    with pytest.raises(CalibrationError, match="Always, has no setting to calibrate"):
        calibrate(Always("small"), TEST, target="quality >= 0.5")


def test_a_policy_that_is_no_dataclass_needs_a_with_knob_of_its_own():
    class Plain(OneShot):
        knob = Knob("bar", 0.5)

        def choose(self, situation):
            raise NotImplementedError

    with pytest.raises(TypeError, match="not a dataclass: it must define `with_knob`"):
        Plain().with_knob(0.1)


def test_a_policy_with_a_save_and_a_load_of_its_own_is_loaded_with_them(tmp_path):
    class Plain(OneShot):
        def choose(self, situation):
            return self.ask("small", "so it is written")

        def save(self, folder):
            kind = f"{__name__}:{type(self).__qualname__}"
            return write_artifact(folder, Artifact(kind, {"mine": 1}))

        @classmethod
        def load(cls, folder):
            return cls()

    SavedRouter(TRAIN.candidates, SafeArm(Plain(), "small")).save(tmp_path / "it")
    assert type(SavedRouter.load(tmp_path / "it").policy.policy) is Plain


# What may be asked of the policy instead of knowing its class


def test_a_policy_knows_whom_it_asks_how_it_reads_and_what_it_weighs():
    names = ("small", "medium", "large")
    assert Threshold(0.5).asks(names) == names
    assert Always("medium").asks(names) == ("medium",)
    assert SafeArm(Always("medium"), "large").asks(names) == ("medium", "large")
    frugal = FrugalCascade(n_grid=10)
    with pytest.raises(NotFittedError, match="max_cost_usd="):
        frugal.asks(names)
    frugal.fit(TRAIN, make_evaluations(TRAIN), max_cost_usd=0.005)
    assert frugal.asks(names) == frugal.chain_
    model = KernelDensity().fit([0.1, 0.9], [False, True])
    cascade = ConfidenceThreshold({"small": model})
    assert SafeArm(cascade, "large").observation_model("small") is model
    assert cascade.observation_model("medium") is None
    assert Threshold(0.5).observation_model("small") is None
    arm = Arm("small", 0.5, 0.01, ttft_s=2.0)
    assert SafeArm(Utility(cost=3.0, ttft=0.1), "large").utility_terms(arm) == pytest.approx(
        {"quality": 0.5, "cost": -0.03, "latency": -0.2}
    )
    assert Pomdp(lambda_=2.0).utility_terms(arm) == {"quality": 0.5, "cost": -0.02}
    assert BAR.utility_terms(Arm("small", None, 0.01)) == {}
    assert Utility(cost=3.0).maximizes_utility
    for policy in (Utility(ttft=0.1), Utility(quality=0.5), SafeArm(Utility(), "large"), BAR):
        assert not policy.maximizes_utility


def test_without_a_reading_of_its_own_the_score_or_else_the_prediction_is_p_good():
    seen = arms(0.4, 0.65, 0.9)
    assert FrugalCascade().p_good(seen, Attempt(candidate="small", confidence=0.2)) == 0.2
    assert FrugalCascade().p_good(seen, Attempt(candidate="small")) == 0.4
    model = KernelDensity().fit([0.1, 0.2, 0.8, 0.9], [False, False, True, True])
    read = ConfidenceThreshold(model).p_good(seen, Attempt(candidate="small", confidence=0.2))
    assert 0 <= read < 0.2


# Artifacts are data


def test_a_class_that_is_not_imported_is_named_and_not_imported(tmp_path, monkeypatch):
    (tmp_path / "elsewhere.py").write_text(
        "from pathlib import Path\n"
        "from langchain_llm_router.policies import Always\n"
        "Path(__file__).with_name('ran').touch()\n"
        "class Mine(Always): pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    settings = {"params": {"candidate": "small"}, "parts": []}
    SavedRouter(TRAIN.candidates, Always("small")).save(tmp_path / "it")
    write_artifact(tmp_path / "it" / "policy", Artifact("elsewhere:Mine", settings))
    with pytest.raises(ArtifactError, match="import 'elsewhere' first"):
        SavedRouter.load(tmp_path / "it")
    assert not (tmp_path / "ran").exists()
    mine = import_module("elsewhere").Mine("small")
    monkeypatch.delitem(sys.modules, "elsewhere")
    assert SavedRouter.load(tmp_path / "it").policy == mine


KINDS = [
    "os:system", "subprocess:Popen", "builtins:eval", "examples.extend:ByLength", "Policy",
    "OneShot", "FittedPolicy", "KernelDensity", "", ":", "policies", 7, None, ["Always"], {},
]  # fmt: skip


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_nothing_but_a_policy_that_can_be_made_is_loaded(tmp_path, kind):
    SavedRouter(TRAIN.candidates, Always("small")).save(tmp_path / "it")
    path = tmp_path / "it" / "policy" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"kind": kind}))
    with pytest.raises(ArtifactError):
        SavedRouter.load(tmp_path / "it")


SETTINGS = [
    {}, [], {"params": []}, {"params": {}}, {"params": {"candidate": "small", "x": 1}},
    {"params": {"candidate": "small"}, "parts": 3},
    {"params": {"candidate": "small"}, "parts": ["candidate"]},
    {"params": {"candidate": "small"}, "parts": ["../policy", "candidate"]},
]  # fmt: skip


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_settings_that_make_no_policy_are_refused(tmp_path, settings):
    folder = write_artifact(tmp_path / "it", Artifact("Always", {}))
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"settings": settings}))
    with pytest.raises(ArtifactError):
        Policy.load(folder)


def test_a_part_is_looked_for_in_the_artifact_s_own_folder_only(tmp_path):
    Always("small").save(tmp_path / "outside")
    folder = SafeArm(Always("large"), "large").save(tmp_path / "it")
    path = folder / "manifest.json"
    settings = {"params": {"safe": "large"}, "parts": ["../outside"]}
    path.write_text(json.dumps(json.loads(path.read_text()) | {"settings": settings}))
    with pytest.raises(ArtifactError, match="missing 1 required"):
        Policy.load(folder)


# Routers saved before every policy had a folder of its own


@cache
def model() -> KernelDensity:
    return KernelDensity().fit([0.1, 0.3, 0.8, 0.9], [False, False, True, True])


# Each with what makes the policy that it stands for.
EARLIER = {
    "plain": ({"kind": "Always", "params": {"candidate": "small"}}, lambda: Always("small")),
    "utility": (
        {"kind": "Utility", "params": {
            "cost": 3.0, "quality": 1.0, "ttft": 0.0, "itl": 0.0, "errors": 0.1}},
        lambda: Utility(cost=3.0),
    ),
    "safe": (
        {"kind": "SafeArm", "safe": "large", "otherwise": {
            "kind": "Threshold", "params": {"threshold": 0.4, "weak": None, "strong": None}}},
        lambda: SafeArm(Threshold(0.4), "large"),
    ),
    "raw": (
        {"kind": "ConfidenceThreshold", "observation": {}, "params": {
            "threshold": 0.7, "lambda_": None, "use_prior": True}},
        lambda: ConfidenceThreshold(threshold=0.7),
    ),
    "one model": (
        {"kind": "ConfidenceThreshold", "observation": {"": "KernelDensity"}, "params": {
            "threshold": 0.5, "lambda_": None, "use_prior": True}},
        lambda: ConfidenceThreshold(model()),
    ),
    "a model each": (
        {"kind": "SafeArm", "safe": "large", "otherwise": {
            "kind": "ConfidenceThreshold", "observation": {"small": "KernelDensity"}, "params": {
                "threshold": 0.5, "lambda_": 2.0, "use_prior": False}}},
        lambda: SafeArm(
            ConfidenceThreshold(
                {"small": model()}, lambda_=2.0, use_prior=False, lambda_raises_bar=True
            ),
            "large",
        ),
    ),
    "fitted": (
        {"kind": "Pomdp"}, lambda: Pomdp(lambda_=9.0).fit(TRAIN, make_evaluations(TRAIN)),
    ),
}  # fmt: skip


@pytest.mark.parametrize(("spec", "make"), EARLIER.values(), ids=EARLIER)
def test_a_router_of_an_earlier_form_is_still_read(tmp_path, spec, make):
    policy = make()
    settings = {
        "candidates": list(TRAIN.candidates), "verifier": None, "expected_cost_usd": {},
        "estimator": None, "policy": spec, "seen": [],
    }  # fmt: skip
    folder = write_artifact(tmp_path / "it", Artifact("SavedRouter", settings))
    if spec["kind"] == "Pomdp":
        policy.save(folder / "policy")
    elif "KernelDensity" in str(spec):
        model().save(folder / "policy" / "0")
    loaded = SavedRouter.load(folder).policy
    for seen in (
        arms(0.4, 0.65, 0.9),
        Situation("q", arms(0.4, 0.6, 0.9).arms, (Attempt(candidate="small", verified=True,
                                                           confidence=0.8),)),
    ):  # fmt: skip
        assert loaded.decide(seen) == policy.decide(seen)
    assert type(loaded) is type(policy)
