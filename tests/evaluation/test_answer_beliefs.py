"""What a pool believes of the answers of a request is told, drawn and saved as it decides."""

import json
from functools import cache
from itertools import combinations

import pytest

from langchain_llm_router.evaluation import explain, recorded_attempts, replay
from langchain_llm_router.policies import AnswerPool
from langchain_llm_router.router.saved_router import SavedRouter
from tests.support.pools import POOL, make_pool

TABLE, GROUPS = make_pool(150)
COSTS = dict(zip(POOL, TABLE.mean_cost_usd.tolist(), strict=True))
PLAIN = AnswerPool(20.0, n_classes=3, n_beliefs=12).fit(TABLE, GROUPS)


def saved(policy=PLAIN, names=POOL) -> SavedRouter:
    costs = {name: COSTS[name] for name in names}
    return SavedRouter(names, policy, verifier="answer_groups", expected_cost_usd=costs)


def told_of(row, names=POOL, policy=PLAIN):
    table, groups = TABLE.select(names), GROUPS.select(names)
    attempts = recorded_attempts(table, row, groups)
    return explain(saved(policy, names), table.queries[row], attempts=attempts)


@cache
def split_row():
    """An acceptance of one of at least two different answers, where more could be asked."""
    for row in range(len(TABLE)):
        told = told_of(row)
        compared = told.decision.scores
        if compared and len(told.answers.answers) > 1 and told.answers.further:
            return told
    raise AssertionError("no such row")


@pytest.mark.parametrize("row", range(0, 40, 8))
def test_the_explained_steps_are_those_of_a_replay_of_the_table(row):
    done = replay(
        PLAIN, None, TABLE.take([row]), evaluations=GROUPS.take([row]),
        expected_cost_usd=TABLE.mean_cost_usd,
    )  # fmt: skip
    told = told_of(row)
    assert told.decision.candidate == POOL[done.accepted[0]]
    assert told.decision.reason == done.decisions[0].reason


def test_each_answer_is_named_once_with_all_that_gave_it():
    told = split_row()
    belief = told.answers
    asked = {step.decision.candidate for step in told.steps if step.decision.action == "ask"}
    members = [name for it in belief.answers for name in it.members]
    assert sorted(members) == sorted(asked)
    chances = [it.p_right for it in belief.answers]
    assert chances == sorted(chances, reverse=True)
    assert sum(chances) <= 1 + 1e-9
    (kept,) = (it for it in belief.answers if it.kept)
    assert told.decision.candidate in kept.members
    assert kept.p_right == told.decision.confidence


def test_a_further_answer_is_worth_less_than_the_kept_one_and_has_a_price():
    belief = split_row().answers
    assert all(it.value <= belief.keeping + 1e-9 and it.cost_usd > 0 for it in belief.further)
    assert not any(it.chosen for it in belief.further)


def test_before_any_answer_the_chosen_candidate_is_worth_most_and_no_score_is_expected():
    told = explain(saved(), "a new question")
    assert told.answers.answers == ()
    assert told.answers.keeping is None
    assert told.answers.further[0].candidate == told.decision.candidate
    assert told.answers.further[0].chosen
    assert told.outlook == ()


def test_the_lambda_that_would_change_the_choice_is_given():
    told = next(told for row in range(30) if len((told := told_of(row)).steps[0].spans) > 1)
    first = told.steps[0]
    for edge in (span.low for span in first.spans[1:]):
        below, above = (
            explain(saved(PLAIN.with_knob(edge * x)), told.query).decision for x in (0.999, 1.001)
        )
        assert below.candidate != above.candidate


def test_a_belief_is_text_and_json():
    told = split_row()
    text = told.text()
    assert "P(right) of each answer so far, and who gave it" in text
    assert f"keeping the best answer: {told.answers.keeping:.3f}" in text
    for it in told.answers.answers:
        assert f"{it.p_right:.3f}  {', '.join(it.members)}" in text
    assert "utility of each candidate" not in text
    again = json.loads(json.dumps(told.as_dict(), allow_nan=False))
    assert again["answers"]["keeping"] == told.answers.keeping


def test_an_answer_that_cannot_be_compared_stands_alone_and_says_so():
    attempts = [
        {"candidate": name, "verified": True, "confidence": None, "answer_group": group}
        for name, group in zip(POOL, (None, 0, None, 0), strict=True)
    ]
    told = explain(saved(PLAIN.with_knob(0.0)), "q", attempts=attempts)
    alone = [it for it in told.answers.answers if not it.comparable]
    assert all(len(it.members) == 1 for it in alone)
    assert "(cannot be compared)" in told.text()


@pytest.mark.parametrize("names", [POOL[:3], POOL])
def test_the_picture_names_every_candidate_and_no_text_covers_another(names, tmp_path):
    plots = pytest.importorskip("langchain_llm_router.plots")
    pytest.importorskip("matplotlib")
    table, groups = TABLE.select(names), GROUPS.select(names)
    policy = AnswerPool(20.0, n_classes=3, n_beliefs=12).fit(table, groups)
    told = next(told for row in range(60) if (told := told_of(row, names, policy)).answers.further)
    figure = plots.explanation(told)
    plots.save(figure, tmp_path / "why.png")
    renderer = figure.canvas.get_renderer()
    shown = [text for ax in figure.axes for text in (*ax.texts, ax.title, ax._left_title)]
    shown = [text for text in shown if text.get_text().strip() and text.get_visible()]
    words = " ".join(text.get_text() for text in shown)
    assert all(name in words for name in names)
    boxes = [text.get_window_extent(renderer) for text in (*shown, *figure.texts)]
    assert not [(a, b) for a, b in combinations(boxes, 2) if a.overlaps(b)]
    width, _ = figure.get_size_inches() * figure.dpi
    assert all(box.x0 >= 0 and box.x1 <= width and box.y0 >= 0 for box in boxes)
