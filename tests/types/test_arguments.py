"""No constructor ignores or misreads what it is given."""

import copy
import importlib
import math
import pickle
import pkgutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import numpy as np
import pytest
from pydantic import BaseModel

import langchain_llm_router
from langchain_llm_router.data import Outcomes, RecordedChatModel
from langchain_llm_router.live import Telemetry
from langchain_llm_router.policies import ConfidenceThreshold, OneShot, Policy, RandomMix, Utility
from langchain_llm_router.policies.observation import BetaBinomial
from langchain_llm_router.types import Candidate, Endpoint, Price
from langchain_llm_router.types.arguments import (
    CheckedArguments,
    argument_types,
    check_range,
    refuse_unknown,
)
from langchain_llm_router.types.errors import MissingExtraError
from langchain_llm_router.verification import Agreement, SelfEvaluator
from tests.support.cases import case

# Rooms offer what their `__all__` says; of these modules users import as well.
MODULES = [
    "apps.cli", "apps.demo", "apps.server",
    "budgets.ledgers", "collect.journal", "data.embeddings", "estimators.memory",
    "estimators.output_length", "live.breakers", "policies.observation",
]  # fmt: skip

# Public, but not made by users: why its constructor is a plain one.
FOUND = "what a function found"
HOT = "made anew for every request, answer or call"
PLAIN = {
    **dict.fromkeys(("Closeness", "DatedPrices", "NamedNumbers", "QuotedPrice"), FOUND),
    **dict.fromkeys(("Arm", "Attempt", "Decision", "Situation", "Stuck"), HOT),
    **dict.fromkeys(("Call", "Case", "Evaluation", "Reply", "LiveCall"), HOT),
    **dict.fromkeys(("Account", "Breaker", "Held", "Reservation", "Loop", "Reader"), HOT),
    **dict.fromkeys(("ArmStats", "ArmTerms", "Calibrated", "Collected", "Curve"), FOUND),
    **dict.fromkeys(("DriftReading", "Entry", "Exam", "Explanation", "Feedback"), FOUND),
    **dict.fromkeys(("Fitted", "FittedCascade", "FittedRoute", "HeldOutReport"), FOUND),
    **dict.fromkeys(("History", "Imported", "Interval", "Knob", "LocalModels"), FOUND),
    **dict.fromkeys(("LogReplay", "Neighbor", "OffPolicy", "Outlook", "Overlap"), FOUND),
    **dict.fromkeys(("Quote", "Record", "Reliability", "Replay", "Replayed"), FOUND),
    **dict.fromkeys(("Retraced", "RouterReport", "ScoredRows", "Separability"), FOUND),
    **dict.fromkeys(("Span", "Spending", "Standing", "StepTaken", "Strategy", "Sweep"), FOUND),
    **dict.fromkeys(("Trials", "ZeroEval", "LatencyCost", "Waiting"), FOUND),
    **dict.fromkeys(("AnswerBelief", "BelievedAnswer", "FurtherAnswer"), FOUND),
    **dict.fromkeys(("ComparedRows", "LoggedScores", "ReplayFigures"), FOUND),
    **dict.fromkeys(("CheckResult", "OpenHandsIndex", "RepeatedRuns"), FOUND),
    "LoopSignals": HOT,
    "Report": "made by a verifier for every candidate",
    **dict.fromkeys(("CascadeState", "Setup"), "a typed dictionary"),
    "Log": "a protocol",
}
# Arguments that are annotated as `Any`, and why.
ANYTHING = {
    ("TerminalWatcher", "console"): "rich is an extra",
    ("DecisionModelEstimator", "model"): "the class of decision models is new in langchain-core",
    ("DecisionVerifier", "model"): "the same",
}


@cache
def public_classes() -> dict[str, type]:
    package = langchain_llm_router.__name__
    rooms = [
        room.name for room in pkgutil.iter_modules(langchain_llm_router.__path__) if room.ispkg
    ]
    found = {}
    for name in ["", *(f".{room}" for room in [*rooms, *MODULES])]:
        try:
            module = importlib.import_module(package + name)
            found |= {one: getattr(module, one) for one in module.__all__}
        except MissingExtraError:
            continue
    return {name: one for name, one in sorted(found.items()) if isinstance(one, type)}


@pytest.fixture(scope="module")
def checked() -> dict[str, type]:
    """The public classes that check their arguments."""
    return {
        name: one for name, one in public_classes().items() if issubclass(one, CheckedArguments)
    }


def test_every_public_constructor_is_checked_or_has_a_reason_not_to_be(checked):
    # Exceptions take anything, and pydantic's models check for themselves.
    others = (CheckedArguments, BaseException, BaseModel)
    rest = {name for name, one in public_classes().items() if not issubclass(one, others)}
    assert rest == set(PLAIN)
    assert len(checked) > 80


def test_an_unknown_keyword_is_refused_with_the_nearest_known_one(checked):
    for name, one in checked.items():
        known = [argument for argument in argument_types(one) if not argument.startswith("_")]
        for argument in known:
            meant = f"{name} has no argument `{argument}x`. Did you mean"
            with case(name, argument), pytest.raises(TypeError, match=meant):
                one(**{f"{argument}x": 1})
        with case(name), pytest.raises(TypeError) as told:
            one(qqqq=1)
        allowed = f"It must be one of {known}." if known else "It takes none."
        assert str(told.value) == f"{name} has no argument `qqqq`. {allowed}"


def test_an_argument_of_a_plainly_wrong_type_is_refused_by_name(checked):
    for name, one in checked.items():
        for argument, kind in argument_types(one).items():
            if kind is Any:
                assert (name, argument) in ANYTHING
                continue
            refusal = rf"^`{argument}` must be .*, got <object object"
            with case(name, argument), pytest.raises(TypeError, match=refusal):
                one(**{argument: object()})


def test_every_annotation_of_a_public_constructor_can_be_resolved():
    for name, one in public_classes().items():
        if issubclass(one, (BaseException, dict, BaseModel)) or name == "Log":
            continue
        with case(name):
            argument_types(one)


# What a constructor cannot do without.
NEEDED: dict[str, dict[str, Any]] = {
    "PriceFeed": {"source": dict},
    "StuckModel": {"weights": {}},
    "Always": {"candidate": "a"},
    "Checks": {"checks": [bool]},
    "Command": {"args": ["true"]},
    "ContrastiveEncoder": {"pretrained": "a"},
    "Unsure": {"policy": ConfidenceThreshold(), "value": 0.5},
    "Agreement": {"n_resamples": 1},
    "Budget": {"limit_usd": 1.0},
    "BudgetedRouting": {"max_cost_usd": 1.0},
    "Candidate": {"name": "a"},
    "Endpoint": {"name": "a"},
    "Filter": {"metric": "cost", "comparison": "<", "limit": 1.0},
    "Pacer": {"limit_usd": 1.0, "period_s": 1.0},
    "RedisLedger": {"url": "redis://localhost"},
    "SharedTelemetry": {"telemetry": Telemetry(), "url": "redis://localhost"},
    "Snapshots": {"telemetry": Telemetry(), "path": "telemetry.json"},
    "Price": {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 1.0},
    "StrategyPoint": {"name": "a", "cost_usd": 1.0, "quality": 0.5},
    "Target": {"metric": "quality", "relation": ">=", "value": 0.5},
    "Threshold": {"threshold": 0.5},
}
# Where a number may be negative.
NEGATIVE = {
    ("StrategyPoint", "low"), ("StrategyPoint", "high"), ("StrategyPoint", "quality"),
    ("StuckModel", "bias"),
}  # fmt: skip


def is_number(kind: Any) -> bool:
    return float in (kind, *get_args(kind)) and get_origin(kind) in (None, Union, UnionType)


@pytest.mark.parametrize("number", [math.nan, np.float32("nan"), math.inf, -math.inf, -1.0])
def test_a_number_that_makes_no_sense_is_refused_by_name(checked, number):
    numbers = [
        (name, argument)
        for name, one in checked.items()
        for argument, kind in argument_types(one).items()
        if is_number(kind)
    ]
    assert len(numbers) > 90
    for name, argument in numbers:
        if number == -1.0 and (name, argument) in NEGATIVE:
            continue
        # Options are told under the names that a request writes.
        told = argument.rstrip("_") if name == "RoutingOptions" else argument
        refusal = rf"`{told}_?`.* got .*{number}"
        with case(name, argument), pytest.raises(ValueError, match=refusal):
            checked[name](**NEEDED.get(name, {}) | {argument: number})


def test_a_value_in_the_wrong_place_is_told_where_it_belongs():
    with pytest.raises(TypeError) as told:
        ConfidenceThreshold(0.7)
    assert str(told.value) == (
        "`observation` must be an ObservationModel, a mapping of them or None, got 0.7: "
        "did you mean threshold=0.7?"
    )
    with pytest.raises(TypeError, match=r"got Price\(.*\): did you mean price=Price"):
        Candidate("small", Price(1, 2))
    # Who names the argument means it.
    with pytest.raises(TypeError, match=r"got 0\.7\.$"):
        ConfidenceThreshold(observation=0.7)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Utility(cost="40"), "`cost` must be a number, got '40'."),
        (lambda: Utility(cost=True), "`cost` must be a number, got True."),
        (lambda: Utility(cost=None), "`cost` must be a number, got None."),
        (lambda: SelfEvaluator(8.0), "`n_samples` must be a whole number, got 8.0"),
        (lambda: SelfEvaluator(True), "`n_samples` must be a whole number, got True"),
        (lambda: SelfEvaluator(adaptive=1), "`adaptive` must be True or False, got 1."),
        (
            lambda: Agreement([Candidate("a"), "b"]),
            "`peers` must be a sequence of Candidate, got [Candidate(",
        ),
        (
            lambda: RandomMix({"a": "1"}),
            "`shares` must be a mapping of numbers, got {'a': '1'}.",
        ),
        (
            lambda: Candidate("a", endpoints=Endpoint("b")),
            "`endpoints` must be a sequence of Endpoint, got Endpoint(",
        ),
        (
            lambda: Outcomes(["q"], "abc", [[1, 0, 1]]),
            "`candidates` must be a sequence of strings, got 'abc'.",
        ),
    ],
)
def test_a_wrong_type_is_told_in_words(make, words):
    with pytest.raises(TypeError) as told:
        make()
    assert str(told.value).startswith(words)


def test_numbers_of_numpy_and_whole_ones_will_do():
    assert Utility(cost=2) == Utility(cost=np.int64(2)) == Utility(cost=np.float32(2))
    assert SelfEvaluator(np.int64(3)) == SelfEvaluator(3)
    assert SelfEvaluator(adaptive=np.True_).adaptive
    table = Outcomes(np.array(["q"]), np.array(["a", "b"]), [[1, 0]], groups=("g",))
    assert table.candidates == ("a", "b")


def test_what_is_given_is_kept_as_it_is():
    shares = {"a": 1}
    assert RandomMix(shares).shares is shares


@dataclass(frozen=True)
class Custom(OneShot):
    """What a user writes."""

    weights: Mapping[str, float]
    mode: Literal["fast", "slow"] = "fast"
    other: "Policy | None" = None

    def choose(self, situation):
        return self.ask(situation.names[0], "first")


@dataclass(frozen=True, slots=True)
class Slotted(CheckedArguments):
    size: int = 1


class Plain(Policy):
    def __init__(self, path: "str | Unknown", *names: str, limit=3, **rest: object):  # noqa: F821
        self.path, self.names, self.limit, self.rest = path, names, limit, rest

    def decide(self, situation):
        raise NotImplementedError


class Empty(Policy):
    def decide(self, situation):
        raise NotImplementedError


def test_classes_of_one_s_own_are_checked_as_well():
    assert Custom({"a": 1.0}, "slow", Custom({})).mode == "slow"
    with pytest.raises(TypeError, match=r"no argument `wieghts`\. Did you mean `weights`"):
        Custom(wieghts={})
    with pytest.raises(ValueError, match=r"`mode` must be one of \['fast', 'slow'\], got 'quick'"):
        Custom({}, "quick")
    with pytest.raises(TypeError, match="`other` must be a Policy or None, got 3"):
        Custom({}, other=3)
    with pytest.raises(TypeError, match="missing 1 required"):
        Custom(mode="fast")
    with pytest.raises(TypeError, match="`size` must be a whole number, got 'large'"):
        Slotted("large")
    assert not hasattr(Slotted(2), "__dict__")


def test_what_has_no_annotation_or_cannot_be_resolved_is_not_checked():
    made = Plain(3, "a", "b", limit="x", more=1)
    assert (made.path, made.names, made.limit, made.rest) == (3, ("a", "b"), "x", {"more": 1})


def test_a_class_without_arguments_ignores_none():
    with pytest.raises(TypeError, match="Empty has no argument `lambda_`"):
        Empty(lambda_=1.0)
    with pytest.raises(TypeError, match=r"Empty takes no arguments, got 1\.0\."):
        Empty(1.0)
    assert isinstance(Empty(), Policy)


class Late(Empty):
    def __init__(self, limit: "Sequence[float]" = ()) -> None:
        self.limit = limit


@pytest.mark.parametrize(
    "made",
    [
        Custom({"a": 1}),
        Slotted(3),
        Plain("p", limit=1),
        Empty(),
        Late([1, 2.5]),
        ConfidenceThreshold(threshold=0.7),
        BetaBinomial(4).fit([0, 1], [False, True]),
        Price(1, 2),
        Candidate("a", endpoints=[Endpoint("b")]),
    ],
    ids=lambda made: type(made).__name__,
)
def test_instances_travel_as_before(made):
    for again in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert type(again) is type(made)
        assert repr(vars(again) if hasattr(again, "__dict__") else again) == repr(
            vars(made) if hasattr(made, "__dict__") else made
        )


def test_replacing_a_field_is_checked():
    assert replace(Custom({}), mode="slow").mode == "slow"
    with pytest.raises(TypeError, match="`weights` must be a mapping"):
        replace(Custom({}), weights=[1.0])
    with pytest.raises(ValueError, match="`cost` must be a finite number >= 0, got -1"):
        replace(Utility(), cost=-1)


def test_unknown_names_are_refused_for_others_too():
    refuse_unknown(["policy"], ["policy", "budgets"], "ChatLLMRouter")
    with pytest.raises(TypeError) as told:
        refuse_unknown(["policy", "budget"], ["policy", "budgets", "_own"], "ChatLLMRouter")
    assert str(told.value) == (
        "ChatLLMRouter has no argument `budget`. Did you mean `budgets`? "
        "It must be one of ['policy', 'budgets']."
    )


def test_a_recorded_model_refuses_what_it_does_not_have():
    with pytest.raises(TypeError, match=r"no argument `usgae`\. Did you mean `usage`"):
        RecordedChatModel({"2 + 2?": "4"}, usgae={})


@pytest.mark.parametrize(
    ("bounds", "number", "allowed"),
    [
        ({}, -1.0, "be a finite number >= 0"),
        ({"above": True}, 0.0, "be a finite number > 0"),
        ({"high": 1.0}, 1.5, r"lie in \[0, 1\]"),
        ({"high": 1.0, "above": True}, 0.0, r"lie in \(0, 1\]"),
        ({"low": -math.inf}, math.inf, "be a finite number"),
    ],
)
def test_a_range_is_told_with_the_value(bounds, number, allowed):
    with pytest.raises(ValueError, match=f"^`value` must {allowed}, got {number}.$"):
        check_range(Number(number), "value", **bounds)
    check_range(Number(1.0), "value", **bounds)
    check_range(Number(None), "value", **bounds)


@dataclass
class Number:
    value: float | None
