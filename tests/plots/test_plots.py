"""Figures come out, as files of a sensible size, and leave nothing behind."""

import sys

import numpy as np
import pytest

from langchain_llm_router import Candidate, ChatLLMRouter, Price, SelfEvaluator, plots, route_of
from langchain_llm_router.data import Outcomes, SelfEvaluations
from langchain_llm_router.evaluation import (
    Exam,
    Interval,
    auc,
    closeness,
    explain,
    replay,
    separability,
)
from langchain_llm_router.evaluation.sweeps import utility_sweep
from langchain_llm_router.plots.routers import _kept_from
from langchain_llm_router.policies import (
    Always,
    CascadeRouting,
    ConfidenceThreshold,
    FrugalCascade,
    Pomdp,
    Utility,
)
from langchain_llm_router.policies.observation import KernelDensity
from langchain_llm_router.router.saved_router import SavedRouter
from langchain_llm_router.types import Arm
from tests.support.fakes import JudgeModel, ScriptedModel, make_evaluations, make_outcomes
from tests.support.observations import article


def size_of(path):
    """Width and height that a PNG file declares."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def texts(figure):
    return [text.get_text().strip() for ax in figure.axes for text in ax.texts]


def readable(figure, tmp_path):
    """Save it, check that it is a PNG of sensible size with something on it."""
    path = plots.save(figure, tmp_path / "made" / "figure.png")
    width, height = size_of(path)
    assert 600 <= width <= 3000
    assert 400 <= height <= 3000
    assert path.stat().st_size > 10_000
    return figure


def test_the_cost_quality_curve_names_strategies_models_mix_and_oracle(tmp_path):
    outcomes = make_outcomes(n=300)
    noise = np.random.default_rng(0).normal(0, 0.3, outcomes.quality.shape)
    predicted = np.clip(outcomes.quality + noise, 0, 1)
    figure = readable(
        plots.cost_quality_curve(
            [
                *plots.sweep_points("router", utility_sweep(predicted, outcomes, n_points=20)),
                plots.replay_point("one λ", replay(Utility(cost=10.0), predicted, outcomes)),
            ],
            singles=plots.single_points(outcomes),
            oracle=plots.oracle_point(outcomes),
        ),
        tmp_path,
    )
    shown = texts(figure)
    for name in ("router", "one λ", "small", "large", "tossing a coin between single models"):
        assert name in shown
    assert any("same quality" in text and "cheaper" in text for text in shown)
    assert figure.axes[0].get_xscale() == "log"


def test_costs_of_one_magnitude_are_drawn_on_a_linear_axis():
    points = [plots.StrategyPoint("a", 0.001, 0.5), plots.StrategyPoint("b", 0.002, 0.6)]
    assert plots.cost_quality_curve(points).axes[0].get_xscale() == "linear"


def test_a_router_that_saves_nothing_gets_no_arrow():
    outcomes = make_outcomes(n=300)
    figure = plots.cost_quality_curve(
        [plots.replay_point("always", replay(Always("small"), None, outcomes))],
        singles=plots.single_points(outcomes),
    )
    assert not any("cheaper" in text for text in texts(figure))


def test_free_models_and_a_single_point_can_be_drawn(tmp_path):
    point = plots.StrategyPoint("free", 0.0, 1.0, 0.9, 1.0)
    readable(plots.cost_quality_curve([point]), tmp_path)
    readable(plots.cost_quality_curve([], singles=[point]), tmp_path)


def test_nothing_to_draw_is_refused():
    with pytest.raises(ValueError, match="got none"):
        plots.cost_quality_curve([])


def test_many_models_leave_out_names_rather_than_cover_each_other():
    rng = np.random.default_rng(1)
    singles = [
        plots.StrategyPoint(f"a-model-with-a-long-name-{i}", *pair)
        for i, pair in enumerate(rng.uniform([1e-4, 0.5], [1e-2, 0.9], (60, 2)))
    ]
    figure = plots.cost_quality_curve([], singles=singles)
    ax = figure.axes[0]
    renderer = figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in ax.texts if text.get_text()]
    assert 5 < len(boxes) < 60
    overlaps = sum(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert overlaps <= 2


def test_no_label_covers_the_chosen_point_and_no_thin_line_crosses_a_label():
    def points(name, pairs):
        return [plots.StrategyPoint(name, cost / 1000, quality / 100) for cost, quality in pairs]

    pooled = [(0.088, 75), (0.27, 81), (0.45, 81.5), (0.8, 83.2), (1.7, 84.7), (1.9, 85), (2.4, 85)]
    singles = {"flash": (0.077, 70.5), "4o-mini": (0.21, 79.4), "claude-3.5-sonnet": (3.4, 83.7)}
    (chosen,) = points("pooled answers", [(1.84, 85.1)])
    figure = plots.cost_quality_curve(
        points("pooled answers", pooled) + points("cascade", [(0.29, 79), (1.78, 84), (3.7, 83.7)]),
        singles=[point for name, pair in singles.items() for point in points(name, [pair])],
        oracle=points("oracle", [(0.25, 91.5)])[0],
        chosen=chosen,
    )
    ax = figure.axes[0]
    renderer = figure.canvas.get_renderer()
    boxes = [text.get_window_extent(renderer) for text in ax.texts if text.get_text()]
    middle = ax.transData.transform((1000 * chosen.cost_usd, 100 * chosen.quality))
    assert all(np.hypot(*(np.clip(middle, box.min, box.max) - middle)) > 12 for box in boxes)
    thin = [line for line in ax.lines if line.get_linewidth() == 0.6]
    for line in thin:
        along = ax.transData.transform(line.get_xydata())
        for share in np.linspace(0.02, 0.98, 97):
            x, y = (1 - share) * along[0] + share * along[1]
            assert not any(box.contains(x, y) for box in boxes)


ARTICLE = {
    "evaluation_gaussians": "100 good",
    "score_swarm": "50 poor",
    "bell_sum": "their sum has area",
    "density_buildup": "1 evaluation",
    "score_densities": "100 good",
    "p_good_curve": "too few scores",
    "total_density": "gate",
}


@pytest.mark.parametrize(("name", "says"), ARTICLE.items(), ids=ARTICLE.keys())
def test_every_figure_of_the_article_comes_out(name, says, tmp_path):
    figure = readable(getattr(plots, name)(article()), tmp_path)
    assert any(says in text for text in texts(figure))


@pytest.mark.parametrize("name", [*ARTICLE, "lambda_gradient"])
def test_odd_scores_can_be_drawn(name, tmp_path):
    for scores, good in (([1.0] * 9, [True] * 9), ([0.5], [False]), ([0.0, 1.0], [False, True])):
        model = KernelDensity().fit(scores, good)
        extra = (0.01,) if name == "lambda_gradient" else ()
        plots.save(getattr(plots, name)(model, *extra), tmp_path / "odd.png")


def test_the_gradient_of_lambda_is_in_quality_per_dollar_and_lies_inside_the_picture(tmp_path):
    figure = readable(plots.lambda_gradient(article(), 0.01), tmp_path)
    key = figure.axes[-1]
    assert [label.get_text() for label in key.get_yticklabels()] == ["100", "75", "50", "25", "0"]
    dear = plots.lambda_gradient(article(), 0.000862).axes[-1].get_yticklabels()
    assert [label.get_text() for label in dear] == ["1,160", "870", "580", "290", "0"]
    width, height = figure.get_size_inches() * figure.dpi
    renderer = figure.canvas.get_renderer()
    for text in (key.yaxis.label, *key.get_yticklabels()):
        box = text.get_window_extent(renderer)
        assert 0 <= box.x0 < box.x1 <= width
        assert 0 <= box.y0 < box.y1 <= height
    with pytest.raises(ValueError, match="> 0"):
        plots.lambda_gradient(article(), 0.0)


@pytest.mark.parametrize("name", ["pomdp", "threshold", "cascade routing"])
def test_the_gradient_of_a_router_keeps_an_answer_from_the_lambda_that_explain_names(name):
    table = make_outcomes(n=200, candidates=("small", "large"))
    said = make_evaluations(table)
    model = KernelDensity().fit(said.confidence[:, 0], table.quality[:, 0] >= 0.5)
    policy = {
        "pomdp": lambda: Pomdp(50.0, likelihood="kde").fit(table, said),
        "threshold": lambda: ConfidenceThreshold(model, lambda_=50.0, use_prior=False),
        "cascade routing": lambda: CascadeRouting(50.0).fit(table, said),
    }[name]()
    costs = dict(zip(table.candidates, table.mean_cost_usd.tolist(), strict=True))
    saved = SavedRouter(table.candidates, policy, verifier="self", expected_cost_usd=costs)
    exam = Exam.of(saved, table, {"self": said})
    assert "lambda_gradient_small" in plots.router_figures(exam)
    before = np.inf
    for score in (0.0, 0.25, 0.5, 0.75, 1.0):
        arms = tuple(Arm(name, cost_usd=cost) for name, cost in costs.items())
        found = _kept_from(policy, arms, 0, score)
        attempt = {"candidate": "small", "verified": True, "confidence": score}
        last = explain(saved, "q", attempts=[attempt]).steps[2].spans[-1]
        assert last.choice == ("accept", "small")
        assert found == pytest.approx(last.low, rel=1e-6)
        assert found <= before + 1e-9
        before = found
        if name == "threshold":
            missing = 1 - model.p_good(score)
            assert found == pytest.approx(missing / costs["large"], rel=1e-6, abs=1e-6)


def test_the_curve_of_p_good_names_only_what_it_shows_and_marks_an_observed_score(tmp_path):
    rare = readable(plots.p_good_curve(article(), score=0.9), tmp_path)
    assert any("dashed" in text for text in texts(rare))
    assert any(text.startswith("observed 0.900: P(good)") for text in texts(rare))
    ungated = KernelDensity(gate=0.0).fit([0.1, 0.4, 0.6, 0.9], [False, True, False, True])
    plain = plots.p_good_curve(ungated)
    assert not any("dashed" in text for text in texts(plain))
    assert len(plain.axes[0].lines) == 1


def test_right_answers_are_dotted_wrong_ones_solid_and_agreement_is_a_spike(tmp_path):
    gaussians = [(0.575, 0.078), (0.9, 0.047), (1.0, 0.0), (0.7, 0.072), (1.0, 0.0), (0.0, 0.0)]
    good = [True, True, True, False, False, False]
    figure = readable(plots.answer_gaussians(gaussians, good), tmp_path)
    lines = figure.axes[0].lines[: len(good)]
    assert [line.get_linestyle() == "-" for line in lines] == [not right for right in good]
    spikes = [set(lines[i].get_xdata()) for i in (2, 4, 5)]
    assert [len(spike) for spike in spikes] == [1, 1, 1]
    assert spikes[0] != spikes[1]
    for i in (0, 1, 3):
        x, y = lines[i].get_data()
        assert x[y.argmax()] == pytest.approx(gaussians[i][0], abs=1e-3)
    with pytest.raises(ValueError, match="same length"):
        plots.answer_gaussians(gaussians, good[:2])


@pytest.mark.parametrize("mean", [0.0, 0.575, 1.0])
def test_one_answer_is_drawn_with_its_mean_and_standard_error(mean, tmp_path):
    error = (mean * (1 - mean) / 40) ** 0.5
    figure = readable(plots.answer_gaussian(mean, error), tmp_path)
    assert any(f"mean {mean:.3f}, standard error {error:.3f}" in text for text in texts(figure))
    with pytest.raises(ValueError, match=r"got 1\.2"):
        plots.answer_gaussian(1.2, 0.0)


def test_the_sum_of_bells_has_an_area_of_one_per_answer_and_its_density_an_area_of_one():
    figure = plots.bell_sum(
        KernelDensity(bandwidth=0.05, reflect=False).fit([0.4, 0.5, 0.6], [True] * 3)
    )
    curves = [ax.lines[0].get_data() for ax in figure.axes if len(ax.lines) > 0]
    areas = [np.trapezoid(y, x) for x, y in curves]
    assert areas == pytest.approx([3, 1], abs=1e-3)


def test_the_models_of_a_cascade_are_asked_until_one_is_kept(tmp_path):
    models = dict.fromkeys(("LM1", "LM2", "LM3"), KernelDensity.article())
    cost = {"LM1": 1.0, "LM2": 1.2, "LM3": 1.5}
    scores = {"LM1": 0.55, "LM2": 0.9}
    figure = readable(
        plots.cascade_scores(models, scores, lambda_=0.5, cost_usd=cost, raises_bar=True), tmp_path
    )
    first, second, third = (" | ".join(t.get_text() for t in ax.texts) for ax in figure.axes)
    p = models["LM1"].p_good(0.55)
    assert f"reward {p:.3f} - 0.600 = {p - 0.6:+.3f}" in first
    assert "escalate to LM2" in first
    assert "P(good) 1.000" in second
    assert "reward 1.000 - 0.750 = +0.250" in second
    assert "keep LM2's answer" in second
    assert third == "not asked"
    ours = plots.cascade_scores(models, {"LM1": 0.2, "LM2": 0.55}, lambda_=0.5, cost_usd=cost)
    shown = [" | ".join(t.get_text() for t in ax.texts) for ax in ours.axes]
    assert "no trust here: P(good) 0.000" in shown[0]
    assert "reward 0.600 - (1 - 0.000) = -0.400" in shown[0]
    assert "the last model | keep LM3's answer" in shown[2] or "keep LM2" in shown[1]
    with pytest.raises(ValueError, match="`scores` of 'LM2'"):
        plots.cascade_scores(models, {"LM1": 0.2}, lambda_=0.5, cost_usd=cost)
    with pytest.raises(ValueError, match="at least one"):
        plots.cascade_scores({}, {}, lambda_=0.5, cost_usd={})


def test_closeness_is_drawn_for_one_query_and_for_all_pairs(tmp_path):
    table = make_outcomes(n=200, candidates=("small", "large"))
    one, pairs = closeness(table, 3), separability(table)
    figure = readable(plots.closeness_histograms(one, pairs), tmp_path)
    assert len(figure.axes) == 2
    assert texts(figure).count("same best candidate") == 2
    assert any(text.startswith("one query:") for text in texts(figure))


def test_no_label_of_a_cost_quality_figure_covers_a_line_of_few_points():
    singles = [plots.StrategyPoint("small", 6e-5, 0.7), plots.StrategyPoint("large", 1e-3, 0.93)]
    curve = [
        plots.StrategyPoint("this router", cost, quality, quality - 0.06, quality + 0.05)
        for cost, quality in ((6e-5, 0.7), (3e-4, 0.84), (5e-4, 0.93), (8e-4, 0.94))
    ]
    figure = plots.cost_quality_curve(curve, singles=singles, chosen=curve[1])
    ax = figure.axes[0]
    renderer = figure.canvas.get_renderer()
    for line in ax.lines:
        drawn = ax.transData.transform(np.column_stack(line.get_data()))
        steps = np.linspace(0, len(drawn) - 1, 2000)
        dense = [np.interp(steps, np.arange(len(drawn)), drawn[:, k]) for k in (0, 1)]
        for text in ax.texts:
            box = text.get_window_extent(renderer)
            inside = (dense[0] > box.x0) & (dense[0] < box.x1)
            inside &= (dense[1] > box.y0) & (dense[1] < box.y1)
            assert not (text.get_text().strip() and inside.any()), text.get_text()


def test_a_logarithmic_axis_of_lambda_is_read_without_exponents(tmp_path):
    gains = [(10.0**k, Interval(0, -1, 1)) for k in (1, 2, 3)]
    figure = readable(plots.worth_curve(gains), tmp_path)
    shown = [label.get_text() for label in figure.axes[0].get_xticklabels()]
    assert {"10", "20", "50", "100", "1,000"} <= set(shown)


def test_decisions_without_a_probability_are_drawn_without_question_marks(tmp_path):
    table = make_outcomes(n=200, candidates=("small", "large"))
    policy = FrugalCascade(n_grid=10).fit(table, make_evaluations(table), max_cost_usd=0.005)
    costs = dict(zip(table.candidates, table.mean_cost_usd.tolist(), strict=True))
    saved = SavedRouter(table.candidates, policy, verifier="self", expected_cost_usd=costs)
    before = plots.explanation(explain(saved, "q"))
    assert "?" not in texts(before)
    attempt = {"candidate": "small", "verified": True, "confidence": 0.75}
    assert "observed 0.750" in texts(plots.explanation(explain(saved, "q", attempts=[attempt])))


def test_the_reliability_curve_and_the_separability_tell_their_figures(tmp_path):
    outcomes = make_outcomes(n=300)
    readable(plots.reliability_curve(outcomes.quality * 0.5 + 0.2, outcomes.quality), tmp_path)
    scores = make_evaluations(outcomes).confidence[:, 0]
    figure = readable(plots.separability(scores, outcomes.quality[:, 0] > 0.5), tmp_path)
    assert any("AUROC" in text and "without a verdict" in text for text in texts(figure))


def path_of(*verdicts, **kwargs):
    small = JudgeModel("draft", verdicts=list(verdicts))
    large = ScriptedModel(*kwargs.pop("large", ["large says"]))
    router = ChatLLMRouter(
        candidates=[Candidate("small", small, Price(1, 2)), Candidate("large", large)],
        policy=ConfidenceThreshold(threshold=0.7),
        verifier=SelfEvaluator(len(verdicts)),
    )
    return plots.decision_path(route_of(router.invoke("question?")), query="question?", **kwargs)


def test_the_path_of_a_query_shows_every_step_and_what_came_of_it(tmp_path):
    shown = texts(readable(path_of("yes", "no", "no"), tmp_path))
    assert [text for text in shown if text in ("ask", "verify", "keep")] == [
        "ask", "verify", "ask", "keep",
    ]  # fmt: skip
    assert "score 0.333" in shown
    assert "cost unknown" in shown
    assert any("does not" in text for text in shown)


def test_a_kept_draft_and_a_failure_have_a_path_as_well(tmp_path):
    assert "keep" in texts(readable(path_of("yes"), tmp_path))
    shown = texts(readable(path_of("no", large=[TimeoutError("slow")]), tmp_path))
    assert any(text.startswith("TimeoutError") for text in shown)


def test_no_global_state_of_matplotlib_is_touched():
    assert "matplotlib.pyplot" not in sys.modules


def test_the_contest_names_everybody_and_cuts_long_chains(tmp_path):
    chain = " → ".join(f"candidate-number-{i}" for i in range(6))
    figure = readable(
        plots.contest_chart(
            [("utility by words", 0.8), (f"POMDP on self: {chain}", 0.7), ("a", 0.6), ("b", 0.5)]
        ),
        tmp_path,
    )
    shown = texts(figure)
    assert {"utility by words", "POMDP on self"} <= set(shown)
    assert any(text.startswith("candidate-number-0") and text.endswith("…") for text in shown)
    with pytest.raises(ValueError, match="got none"):
        plots.contest_chart([])


def test_the_shares_of_answers_are_written_where_there_is_room(tmp_path):
    shares = {"all 10": {"small": 0.96, "large": 0.04}, "sums (2)": {"small": 0.5, "large": 0.5}}
    shares |= {name: {"small": 1.0, "large": 0.0} for name in ("words", "facts")}
    figure = readable(plots.answer_shares(shares), tmp_path)
    assert texts(figure).count("50") == 2
    assert "96" in texts(figure)
    assert "4" not in texts(figure)
    with pytest.raises(ValueError, match="at least one group"):
        plots.answer_shares({})


def test_the_worth_curve_says_where_routing_is_not_proven_to_be_worth_it(tmp_path):
    gains = [(0.1, Interval(0, -1, 1)), (1.0, Interval(3, 1, 5)), (10.0, Interval(0, -1, 1))]
    shown = texts(readable(plots.worth_curve(gains, chosen=1.0), tmp_path))
    assert "worth routing" in shown
    assert any("not proven" in text for text in shown)
    assert "this router's λ" in shown
    with pytest.raises(ValueError, match="at least two"):
        plots.worth_curve(gains[:1])


def test_the_grid_says_which_verifier_knows_whose_good_answers(tmp_path):
    outcomes = make_outcomes(n=300)
    shape = outcomes.quality.shape
    rng = np.random.default_rng(0)
    votes = rng.integers(0, 9, shape) / 8
    votes[:5, 0] = np.nan
    sure = np.clip(0.4 * (outcomes.quality > 0.5) + rng.uniform(0, 0.5, shape), 0, 1)
    swapped = SelfEvaluations(outcomes.candidates[::-1], sure[:, ::-1])
    verifiers = {"votes": SelfEvaluations(outcomes.candidates, votes), "sure": swapped}
    figure = readable(plots.verifier_grid(outcomes, verifiers), tmp_path)
    assert len(figure.axes) == 2 * len(outcomes.candidates)
    assert texts(figure).count("5 without a verdict") == 1
    # Columns are found by name, whatever their order.
    for j, ax in enumerate(figure.axes[-shape[1] :]):
        area = auc(sure[:, j], outcomes.quality[:, j] >= 0.5)
        assert f"AUROC {area:.3f}" in [text.get_text() for text in ax.texts]
    assert {"votes", "sure"} <= {text.get_text() for text in figure.texts}


def test_the_grid_draws_models_that_are_always_right_and_constant_scores(tmp_path):
    outcomes = Outcomes(["a", "b", "c"], ("one", "a-model-of-a-name-longer-than-a-column"),
                        [[1, 0], [1, 1], [1, 1]])  # fmt: skip
    scores = np.column_stack([np.full(3, 0.5), np.full(3, np.nan)])
    figure = readable(
        plots.verifier_grid(outcomes, {"same": SelfEvaluations(outcomes.candidates, scores)}),
        tmp_path,
    )
    assert texts(figure).count("no AUROC") == 2
    assert "3 without a verdict" in texts(figure)


def test_a_grid_of_nothing_or_of_others_rows_is_refused():
    outcomes = make_outcomes(n=20)
    with pytest.raises(ValueError, match="got none"):
        plots.verifier_grid(outcomes, {})
    fewer = SelfEvaluations(outcomes.candidates, np.ones((3, outcomes.quality.shape[1])))
    with pytest.raises(ValueError, match="the 20 rows of the outcomes, got 3"):
        plots.verifier_grid(outcomes, {"v": fewer})
    other = SelfEvaluations(["nobody"], np.ones((20, 1)))
    with pytest.raises(ValueError, match="but lack"):
        plots.verifier_grid(outcomes, {"v": other})
