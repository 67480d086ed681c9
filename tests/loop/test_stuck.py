"""Rules and a fitted model that read whether a tool loop is stuck."""

import random

import pytest
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

from langchain_llm_router.loop import LoopSignals, StuckDetector, StuckModel, StuckRules
from langchain_llm_router.types import Stuck

CALM = LoopSignals(0, 0, 0, 0, 0, 3, 900, 0.01)
COUNTS = ("repeated_calls", "errors_in_a_row", "invalid_calls", "stale_observations", "gave_up")


def loop_of(results, *, usd=None, tokens=None):
    """Return a recorded loop with one call per result, each with other arguments."""
    messages = [HumanMessage("Do it.")]
    for i, result in enumerate(results):
        said = AIMessage("", tool_calls=[{"name": "run", "args": {"i": i}, "id": str(i)}])
        if usd is not None:
            said.response_metadata = {"llm_router": {"candidate": "small", "cost_usd": usd}}
        if tokens is not None:
            said.usage_metadata = {
                "input_tokens": tokens, "output_tokens": 1, "total_tokens": tokens + 1
            }  # fmt: skip
        messages += [said, ToolMessage(result, tool_call_id=str(i))]
    return messages


def recorded(n=60, seed=0):
    """Return loops that mostly fail where errors pile up at their end."""
    draw = random.Random(seed)
    loops = []
    for i in range(n):
        failed = i % 2 == 0
        p_error = 0.8 if failed else 0.15
        results = [
            "Error: no" if draw.random() < p_error else f"part {draw.random()}" for _ in range(8)
        ]
        loops.append((loop_of(results), not failed))
    return loops


@pytest.mark.parametrize("name", COUNTS)
def test_each_signal_reaches_its_limit_and_is_named(name):
    limit = getattr(StuckRules(), name)
    below = StuckRules().judge(CALM._replace(**{name: limit - 1}))
    assert not below.stuck
    reached = StuckRules().judge(CALM._replace(**{name: limit}))
    assert (reached.stuck, reached.signal) == (True, name)
    assert f"(limit {limit})" in reached.detail
    assert not StuckRules(**{name: None}).judge(CALM._replace(**{name: 99})).stuck


def test_turns_tokens_and_costs_have_no_limit_until_one_is_given():
    long = CALM._replace(turns=10_000, tokens=10**9, cost_usd=1e6)
    assert not StuckRules().judge(long).stuck
    assert StuckRules(turns=50).judge(long).signal == "turns"
    assert StuckRules(tokens=10_000).judge(long).signal == "tokens"
    assert StuckRules(cost_usd=1.0).judge(long).detail == "it cost 1e+06 USD (limit 1)"


def test_an_unknown_number_reaches_no_limit():
    unknown = CALM._replace(tokens=None, cost_usd=None)
    assert StuckRules(tokens=1, cost_usd=0.001).judge(unknown) == Stuck()


def test_the_signal_furthest_beyond_its_limit_is_named():
    told = StuckRules().judge(CALM._replace(repeated_calls=3, errors_in_a_row=6))
    assert told.signal == "errors_in_a_row"
    assert told.signals == {
        "repeated_calls": 3, "errors_in_a_row": 6, "turns": 3, "tokens": 900, "cost_usd": 0.01
    }  # fmt: skip


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((name, 0) for name in (*COUNTS, "turns", "tokens", "cost_usd")),
        ("cost_usd", float("nan")),
        ("max_switch_usd", -1),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(field, value):
    with pytest.raises(ValueError, match=field):
        StuckRules(**{field: value})
    with pytest.raises(TypeError, match="no argument `errors`"):
        StuckRules(errors=3)


def test_limits_calibrated_on_logs_lie_above_the_quantile_of_loops_that_succeeded():
    loops = [(loop_of(["a"] * n, usd=0.5, tokens=99), True) for n in range(1, 21)]
    loops += [(loop_of(["Error: no"] * 50), False)]
    rules = StuckRules.calibrated(loops, quantile=0.9, max_switch_usd=2.0)
    assert (rules.turns, rules.tokens) == (19, 1801)
    assert rules.cost_usd == pytest.approx(9.0)
    assert rules.max_switch_usd == 2.0
    assert rules.errors_in_a_row == StuckRules().errors_in_a_row
    stuck = [rules.read(messages[1:]).stuck for messages, succeeded in loops if succeeded]
    assert sum(stuck) == 2


def test_a_signal_that_is_usual_in_loops_that_succeed_gets_a_higher_limit():
    loops = [(loop_of(["Error: no"] * 5 + ["fine"]), True)] * 4
    rules = StuckRules.calibrated(loops)
    assert rules.errors_in_a_row == 6
    assert (rules.tokens, rules.cost_usd) == (None, None)


@pytest.mark.parametrize("quantile", [0, -1, 1.5, float("nan")])
def test_a_calibration_without_data_or_quantile_is_refused(quantile):
    with pytest.raises(ValueError, match="quantile"):
        StuckRules.calibrated(recorded(), quantile=quantile)
    with pytest.raises(ValueError, match="no successful loop"):
        StuckRules.calibrated([(loop_of(["a"]), False)])


def test_a_model_fitted_on_loops_tells_failing_from_successful_ones():
    model = StuckModel.fit(recorded(), false_alarms=0.1)
    assert all(weight > 0 for weight in model.weights.values())
    assert len(model.weights) <= len(LoopSignals._fields)
    fresh = recorded(200, seed=1)
    p = [[model.read(messages[1:]).probability, ok] for messages, ok in fresh]
    lost = [value for value, ok in p if not ok]
    won = [value for value, ok in p if ok]
    assert sum(a > b for a in lost for b in won) / (len(lost) * len(won)) > 0.75


def alarmed(model, messages):
    ends = range(3, len(messages) + 1, 2)
    return any(model.read(messages[1:end]).stuck for end in ends)


@pytest.mark.parametrize("false_alarms", [0.0, 0.1, 0.5])
def test_the_threshold_alarms_in_no_more_successful_loops_than_allowed(false_alarms):
    loops = recorded()
    model = StuckModel.fit(loops, false_alarms=false_alarms)
    won = [messages for messages, ok in loops if ok]
    assert sum(alarmed(model, messages) for messages in won) <= false_alarms * len(won)
    lost = [messages for messages, ok in loops if not ok]
    assert sum(alarmed(model, messages) for messages in lost) > 0.5 * len(lost)


def test_the_reading_names_the_signal_that_raises_the_probability_most():
    model = StuckModel({"errors_in_a_row": 2.0, "turns": 0.1}, bias=-1.0)
    told = model.judge(CALM._replace(errors_in_a_row=4))
    assert (told.stuck, told.signal) == (True, "errors_in_a_row")
    assert told.detail.startswith("P(it fails) = 0.914 (threshold 0.500), most of all because")
    assert model.judge(CALM).stuck is False


def test_an_unknown_signal_counts_as_its_mean():
    model = StuckModel({"tokens": 1.0}, means={"tokens": 6.0}, bias=-2.0)
    assert model.judge(CALM._replace(tokens=None)).probability == pytest.approx(
        1 / (1 + 2.718281828**2)
    )


@pytest.mark.parametrize("outcome", [True, False])
def test_loops_that_all_ended_alike_teach_nothing(outcome):
    with pytest.raises(ValueError, match="at least one loop that succeeded and one that failed"):
        StuckModel.fit([(loop_of(["a"]), outcome), ([], not outcome)])
    with pytest.raises(ValueError, match="false_alarms"):
        StuckModel.fit(recorded(), false_alarms=1.0)


@pytest.mark.parametrize(
    "fields",
    [{"weights": {"errors": 1.0}}, {"weights": {"turns": float("nan")}}, {"threshold": 0.0}],
)
def test_a_model_with_numbers_that_make_no_sense_is_refused(fields):
    with pytest.raises(ValueError, match=r"weights|threshold"):
        StuckModel(**{"weights": {}, **fields})


def test_a_model_of_extreme_weights_still_gives_a_probability():
    model = StuckModel({"turns": 1e300})
    assert model.judge(CALM).probability == pytest.approx(1.0)


def test_a_detector_of_your_own_needs_one_function():
    class Impatient(StuckDetector):
        def judge(self, signals):
            return Stuck(signals.turns > 1, "turns", "it took more than a turn")

    assert Impatient().read(loop_of(["a", "b"])[1:]).stuck
    assert not Impatient().read(loop_of(["a"])[1:]).stuck


def test_a_stuck_reading_needs_the_signal_that_moved_it():
    with pytest.raises(ValueError, match="name of a `signal`"):
        Stuck(stuck=True)
