"""From questions to training tables: nothing lost or asked twice, one clear line of trouble."""

import io
import json
import math
import re
import time
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from langchain_core.messages import AIMessage, SystemMessage

from langchain_llm_router import Candidate, Price
from langchain_llm_router.collect import Limits, Watcher, collect
from langchain_llm_router.collect.graders import (
    ChoiceMatch,
    ExactMatch,
    Judge,
    NumberMatch,
    PairwiseJudge,
    preference,
)
from langchain_llm_router.collect.journal import Journal
from langchain_llm_router.collect.questions import Question, from_langsmith, load_questions
from langchain_llm_router.collect.tables import load_journal
from langchain_llm_router.collect.terminal_watcher import TerminalWatcher
from langchain_llm_router.live.failure_rules import is_hopeless, is_retryable
from langchain_llm_router.types.errors import CollectionError
from langchain_llm_router.types.figures import format_usd
from langchain_llm_router.verification import AnswerGroups, AnswerLogprob, YesNo
from tests.support.fakes import CapableModel, GradingModel, SamplingModel, ScriptedModel

PRICE = Price(1.0, 2.0)
QUESTIONS = [
    Question(f"q{i}", f"What is {i} + {i}?", reference=str(2 * i), group="sums") for i in range(6)
]
FAST = Limits(concurrency=2, attempts=3, backoff_s=0.001)


class Adder(ScriptedModel):
    """Adds right, or one too much, and counts what it was asked; may die at its nth call."""

    off_by: int = 0
    dies_at: int = -1

    def _next(self, messages):
        if len(self.seen) == self.dies_at:
            raise KeyboardInterrupt
        a = int(str(messages[-1].text).split()[2])
        self.script = [str(2 * a + self.off_by)]
        return super()._next(messages)


class StatusError(Exception):
    """An endpoint's failure with an HTTP status, as every provider's SDK has it."""

    def __init__(self, status_code: int, text: str = "no", headers: dict | None = None) -> None:
        super().__init__(text)
        self.status_code = status_code
        self.response = httpx.Response(status_code, headers=headers or {})


def pool(**kwargs):
    return [
        Candidate("weak", Adder("x", off_by=1), PRICE, expected_output_tokens=1),
        Candidate("strong", Adder("x", **kwargs), PRICE, expected_output_tokens=1),
    ]


def lines(path: Path, kind: str) -> list[dict]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [row for row in rows if row["kind"] == kind]


def test_every_candidate_answers_every_question_and_is_graded(tmp_path):
    done = collect(QUESTIONS, pool(), journal=tmp_path / "run.jsonl", grader="number", limits=FAST)
    assert done.outcomes.candidates == ("weak", "strong")
    assert done.outcomes.quality.tolist() == [[0.0, 1.0]] * 6
    assert done.outcomes.cost_usd[0].tolist() == [pytest.approx((5 * 1 + 1 * 2) / 1e6)] * 2
    assert done.outcomes.groups == ("sums",) * 6
    assert done.answers[2] == {"weak": "5", "strong": "4"}
    assert done.incomplete == {}
    assert (done.latency_s >= done.ttft_s).all()


def test_the_preamble_goes_before_each_question(tmp_path):
    candidates = pool()
    preamble = [SystemMessage("Add.")]
    journal = tmp_path / "run.jsonl"
    collect(QUESTIONS, candidates, journal=journal, grader="number", preamble=preamble)
    assert [m.text for m in candidates[0].model.seen[0]] == ["Add.", QUESTIONS[0].query]
    with pytest.raises(ValueError, match="begun with preamble"):
        collect(QUESTIONS, candidates, journal=journal, grader="number")


@pytest.mark.parametrize("torn", [b"", b'{"kind": "answer", "id": "q5", "cand'])
def test_a_killed_run_goes_on_without_losing_or_repeating_an_answer(tmp_path, torn):
    journal = tmp_path / "run.jsonl"
    first = pool(dies_at=3)
    with pytest.raises(KeyboardInterrupt):
        collect(QUESTIONS, first, journal=journal, grader="number", limits=Limits(concurrency=1))
    kept = lines(journal, "answer")
    with journal.open("ab") as file:
        file.write(torn)
    second = pool()
    done = collect(QUESTIONS, second, journal=journal, grader="number", limits=FAST)
    assert len(done.ids) == 6
    answers = lines(journal, "answer")
    assert answers[: len(kept)] == kept
    assert len({(a["id"], a["candidate"]) for a in answers}) == len(answers) == 12
    asked_again = sum(len(c.model.seen) for c in second)
    assert asked_again == 12 - len(kept)
    third = pool()
    collect(QUESTIONS, third, journal=journal, grader="number")
    assert [c.model.seen for c in third] == [[], []]


def test_two_runs_may_not_write_to_one_journal(tmp_path):
    pytest.importorskip("fcntl")
    with Journal(tmp_path / "run.jsonl"), pytest.raises(ValueError, match="Another run"):
        collect(QUESTIONS, pool(), journal=tmp_path / "run.jsonl", grader="number")


def test_a_broken_line_in_the_middle_is_named_and_nothing_is_changed(tmp_path):
    journal = tmp_path / "run.jsonl"
    journal.write_text('{"kind": "run", "settings": {}}\nnonsense\n{"kind": "que')
    with pytest.raises(ValueError, match=r"run\.jsonl line 2"):
        collect(QUESTIONS, pool(), journal=journal, grader="number")
    assert journal.read_text().endswith('{"kind": "que')


def test_a_question_that_changed_its_words_is_refused(tmp_path):
    collect(QUESTIONS, pool(), journal=tmp_path / "run.jsonl", grader="number")
    changed = [Question("q0", "What is 7 + 7?", "14"), *QUESTIONS[1:]]
    words = (
        r"'q0' must be the same as in run\.jsonl, where its `query` is '.{1,60}', got 'What is 7"
    )
    with pytest.raises(ValueError, match=words):
        collect(changed, pool(), journal=tmp_path / "run.jsonl", grader="number")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"query": "a?"}, {"question": "b?"}], "row 1: `query` must be a text"),
        (
            [{"id": "x", "query": "a?"}, {"id": "x", "query": "b?"}],
            "row 1: `id` must be unique, got 'x', which row 0",
        ),
        ([], "at least one question"),
        ([{"query": "1 + 1?", "reference": "2"}, {"query": "b?"}], r"Row 1 .*needs a `reference`"),
        (
            [{"query": "1 + 1?", "reference": "two"}],
            r"Row 0 .*NumberMatch cannot read the reference 'two'",
        ),
        (
            [
                {"query": "1 + 1?", "reference": "2"},
                {"query": "b?", "reference": "1"},
                {"query": "1 + 1?", "reference": "3"},
            ],
            "row 0 and row 2 have the same question, .1 \\+ 1\\?., with different values of "
            "`reference`, .2. and .3.: remove one",
        ),
    ],
)
def test_an_unfit_question_is_named_before_anything_is_asked(tmp_path, rows, words):
    candidates = pool()
    with pytest.raises(ValueError, match=words):
        collect(rows, candidates, journal=tmp_path / "run.jsonl", grader="number")
    assert candidates[0].model.seen == []
    assert not (tmp_path / "run.jsonl").exists()


def test_questions_come_from_jsonl_csv_parquet_and_langsmith(tmp_path):
    (tmp_path / "q.jsonl").write_text('{"query": "a?", "reference": 4}\n\n{"query": "b?"}\n')
    (tmp_path / "q.csv").write_text("id,query,group\nx,a?,sums\ny,b?,\n")
    assert load_questions(tmp_path / "q.jsonl")[0] == Question("0", "a?", "4")
    assert load_questions(tmp_path / "q.csv")[1] == Question("y", "b?")
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table({"query": ["a?"]}), tmp_path / "q.parquet")
    assert load_questions(str(tmp_path / "q.parquet")) == [Question("0", "a?")]
    with pytest.raises(ValueError, match=r"must end in"):
        load_questions(tmp_path / "q.xlsx")
    (tmp_path / "bad.jsonl").write_text('{"query": "a?"}\n{"query"')
    with pytest.raises(ValueError, match=r"bad\.jsonl line 2 is not a JSON object"):
        load_questions(tmp_path / "bad.jsonl")

    class Example:
        id, inputs, outputs = "e1", {"question": "a?"}, {"answer": "b"}

    class Client:
        def list_examples(self, *, dataset_name):
            return [Example()]

    assert from_langsmith("mine", Client()) == [Question("e1", "a?", "b")]


# Trouble


def test_rate_limits_and_lost_connections_are_waited_out(tmp_path):
    lost = httpx.ConnectError("refused")
    shaky = ScriptedModel(StatusError(429, headers={"retry-after": "0.001"}), lost, "0")
    candidates = [Candidate("shaky", shaky, PRICE)]
    done = collect(
        QUESTIONS[:1], candidates, journal=tmp_path / "r.jsonl", grader="number", limits=FAST
    )
    assert done.outcomes.quality.tolist() == [[1.0]]
    assert len(shaky.seen) == 3


def test_a_server_that_dies_ends_in_one_line_that_names_candidate_and_question(tmp_path):
    dead = ScriptedModel("0", "2", httpx.ConnectError("refused"))
    candidates = [Candidate("mine", dead, PRICE)]
    journal = tmp_path / "run.jsonl"
    limits = Limits(concurrency=1, attempts=2, backoff_s=0.001)
    with pytest.raises(CollectionError) as caught:
        collect(QUESTIONS, candidates, journal=journal, grader="number", limits=limits)
    said = str(caught.value)
    assert "\n" not in said
    assert "Candidate 'mine', question 'q2': ConnectError: refused" in said
    assert "2 of 6 answers are in run.jsonl" in said
    assert len(load_journal(journal).ids) == 2
    again = [Candidate("mine", Adder("x"), PRICE)]
    assert len(collect(QUESTIONS, again, journal=journal, grader="number").ids) == 6
    assert len(again[0].model.seen) == 4


def test_a_wrong_key_stops_at_once(tmp_path):
    locked = ScriptedModel(StatusError(401, "invalid api key"))
    candidates = [Candidate("locked", locked, PRICE)]
    with pytest.raises(CollectionError, match=r"'locked'.*'q0'.*invalid api key"):
        collect(
            QUESTIONS,
            candidates,
            journal=tmp_path / "run.jsonl",
            grader="number",
            limits=Limits(concurrency=1),
        )
    assert len(locked.seen) == 1


def test_one_refused_question_is_left_out_and_the_rest_goes_on(tmp_path):
    picky = ScriptedModel("0", StatusError(400, "content filter"), "4", "6", "8", "10")
    candidates = [Candidate("picky", picky, PRICE)]
    done = collect(
        QUESTIONS,
        candidates,
        journal=tmp_path / "run.jsonl",
        grader="number",
        limits=Limits(concurrency=1),
    )
    assert done.ids == ("q0", "q2", "q3", "q4", "q5")
    assert done.incomplete == {"q1": "StatusError: content filter"}


def test_a_candidate_that_always_fails_stops_the_run(tmp_path):
    broken = ScriptedModel(StatusError(422, "bad parameter"))
    with pytest.raises(CollectionError, match=r"'broken'.*bad parameter.*failure 3 in a row"):
        collect(
            QUESTIONS,
            [Candidate("broken", broken, PRICE)],
            journal=tmp_path / "run.jsonl",
            grader="number",
            limits=Limits(concurrency=1, failures=3),
        )


def test_the_budget_stops_cleanly_before_it_is_passed(tmp_path):
    journal = tmp_path / "run.jsonl"
    one = (5 * 1 + 1 * 2) / 1e6
    with pytest.raises(CollectionError, match=r"exceed the budget.*\$0\.000028 of \$0\.000029"):
        collect(
            QUESTIONS,
            pool(),
            journal=journal,
            grader="number",
            limits=Limits(concurrency=1, budget_usd=2.9e-5),
        )
    spent = math.fsum(row["cost_usd"] for row in lines(journal, "answer"))
    assert 2.9e-5 - 2 * one <= spent <= 2.9e-5
    with pytest.raises(ValueError, match=r"\['free'\] are unknown"):
        collect(
            QUESTIONS,
            [Candidate("free", Adder("x"))],
            journal=tmp_path / "other.jsonl",
            grader="number",
            limits=Limits(budget_usd=1.0),
        )


@pytest.mark.parametrize("bad", [{"concurrency": 0}, {"attempts": 0}, {"budget_usd": -1.0}])
def test_senseless_limits_are_refused(bad):
    with pytest.raises(ValueError, match=f"`{next(iter(bad))}`"):
        Limits(**bad)


def test_which_failures_pass_by_themselves():
    wrapped = RuntimeError("the SDK's own")
    wrapped.__cause__ = httpx.ReadTimeout("slow")
    assert is_retryable(wrapped)
    assert is_retryable(StatusError(503))
    # A client library wraps the network's error, and may have a network library of its own.
    strange = type("ConnectError", (Exception,), {})("refused")
    wrapped = RuntimeError("the SDK's own")
    wrapped.__cause__ = strange
    assert is_retryable(wrapped)
    assert not is_retryable(StatusError(400))
    assert not is_retryable(ValueError("no"))
    assert is_hopeless(StatusError(401))
    assert not is_hopeless(ValueError("no"))


# Quote and progress


class Watching(Watcher):
    def __init__(self, agrees: bool = True) -> None:
        self.agrees, self.quotes, self.steps, self.ends = agrees, [], [], []

    def confirm(self, quote):
        self.quotes.append(quote)
        return self.agrees

    def advance(self, done, total, spent_usd):
        self.steps.append((done, total, spent_usd))

    def end(self, spending):
        self.ends.append(spending)


def test_the_quote_tells_calls_tokens_and_dollars_and_may_be_declined(tmp_path):
    candidates, watcher = pool(), Watching(agrees=False)
    judge = Candidate("judge", GradingModel(grades=[{"grade": "Excellent"}]), PRICE)
    with pytest.raises(CollectionError, match="no call was made"):
        collect(
            QUESTIONS,
            candidates,
            journal=tmp_path / "run.jsonl",
            grader=Judge(judge),
            verifiers={"self": YesNo(8)},
            watcher=watcher,
        )
    (quote,) = watcher.quotes
    assert {name: e.calls for name, e in quote.models.items()} == {
        "weak": 12,
        "strong": 6,
        "judge": 12,
    }
    assert quote.calls == 30
    assert 0 < quote.cost_usd < 0.01
    assert "In all 30 calls, about $0.0" in str(quote)
    assert candidates[0].model.seen == []


def test_the_quote_counts_only_what_is_left_and_progress_reaches_the_end(tmp_path):
    journal, watcher = tmp_path / "run.jsonl", Watching()
    collect(QUESTIONS[:2], pool(), journal=journal, grader="number")
    collect(QUESTIONS, pool(), journal=journal, grader="number", watcher=watcher)
    assert watcher.quotes[0].calls == 8
    assert watcher.steps[-1][:2] == (12, 12)
    assert watcher.steps[-1][2] == pytest.approx(12 * 7e-6)


def test_the_terminal_shows_quote_and_bar(tmp_path):
    console = pytest.importorskip("rich.console").Console(record=True, width=100, quiet=True)
    with TerminalWatcher(yes=True, console=console) as watcher:
        collect(
            QUESTIONS,
            pool(),
            journal=tmp_path / "run.jsonl",
            grader="number",
            watcher=watcher,
        )


def test_the_bar_shows_rate_time_left_and_dollars(tmp_path):
    rich = pytest.importorskip("rich.console")
    drawn = io.StringIO()
    console = rich.Console(file=drawn, width=140, force_terminal=True, color_system=None)
    with TerminalWatcher(yes=True, console=console) as watcher:
        for done in range(1, 5):
            watcher.advance(done, 10, done / 100)
            time.sleep(0.02)
    last = drawn.getvalue()
    assert "4/10" in last
    assert "$0.04" in last
    assert re.search(r"[\d.]+/s", last)
    assert re.search(r"0:00:0\d", last)


def test_the_end_tells_what_was_spent_beside_what_was_expected(tmp_path):
    journal, watcher = tmp_path / "run.jsonl", Watching()
    collect(QUESTIONS[:2], pool(), journal=journal, grader="number")
    collect(QUESTIONS, pool(), journal=journal, grader="number", watcher=watcher)
    (spending,) = watcher.ends
    assert spending.cost_usd == pytest.approx(8 * 7e-6), "of this run alone"
    assert spending.expected_usd == watcher.quotes[0].cost_usd
    assert str(spending) == (
        f"Spent: {format_usd(8 * 7e-6)}. Expected: {format_usd(watcher.quotes[0].cost_usd)}."
    )


def test_a_run_that_fails_or_is_killed_tells_what_it_spent_too(tmp_path):
    for dies_at, budget, error in ((3, None, KeyboardInterrupt), (-1, 2e-5, CollectionError)):
        watcher, candidates = Watching(), pool()
        candidates[0].model.dies_at = dies_at
        limits = Limits(concurrency=1, budget_usd=budget)
        path = tmp_path / f"{error.__name__}.jsonl"
        with pytest.raises(error):
            collect(QUESTIONS, candidates, journal=path, grader="number", limits=limits,
                    watcher=watcher)  # fmt: skip
        (spending,) = watcher.ends
        rows = lines(path, "answer")
        assert spending.known_usd == pytest.approx(math.fsum(row["cost_usd"] for row in rows))
        assert spending.known_usd > 0


def test_what_was_spent_is_unknown_where_a_price_is(tmp_path):
    watcher = Watching()
    candidates = [pool()[0], replace(pool()[1], price=None)]
    collect(QUESTIONS, candidates, journal=tmp_path / "run.jsonl", grader="number",
            watcher=watcher)  # fmt: skip
    (spending,) = watcher.ends
    assert (spending.cost_usd, spending.expected_usd, spending.n_unpriced) == (None, None, 6)
    assert str(spending) == (
        f"Spent: {format_usd(6 * 7e-6)} and the unknown cost of 6 answers, verdicts and grades. "
        "Expected: an unknown amount."
    )


# Grades


@pytest.mark.parametrize(
    ("grader", "answer", "reference", "right"),
    [
        (ExactMatch(), " Paris. ", "paris", True),
        (ExactMatch(), "Paris, France", "paris", False),
        (NumberMatch(), "So 3 + 4 is **1,007.0** dollars", "1007", True),
        (NumberMatch(), "no idea", "7", False),
        (NumberMatch(), "-0.5", "#### -.5", True),
        (ChoiceMatch(), "C", "C", True),
        (ChoiceMatch(), "(b) because", "B", True),
        (ChoiceMatch(), "A good question. The answer is D.", "D", True),
        (ChoiceMatch(), "Because of gravity it must be C", "C", True),
        (ChoiceMatch(), "nothing", "A", False),
    ],
)
def test_answers_are_compared_with_references(grader, answer, reference, right):
    assert grader.matches(answer, reference) is right


@pytest.mark.parametrize(
    ("scale", "said", "quality"),
    [
        ("five", "Irrelevant", 0),
        ("five", "Bad", 0.25),
        ("five", "Satisfactory", 0.5),
        ("five", "Very good", 0.75),
        ("five", "EXCELLENT", 1),
        ("binary", "correct", 1),
    ],
)
def test_a_judge_grades_with_the_reference_at_hand(tmp_path, scale, said, quality):
    model = GradingModel(grades=[{"grade": said}])
    done = collect(
        QUESTIONS[:2],
        pool(),
        journal=tmp_path / "run.jsonl",
        grader=Judge(Candidate("judge", model), scale),
    )
    assert done.outcomes.quality.tolist() == [[quality] * 2] * 2
    assert "<reference>\n0\n</reference>\n<answer>\n" in model.prompts[0]


def test_a_judge_that_answers_prose_ends_in_one_line_with_the_answers_kept(tmp_path):
    judge = Candidate("judge", GradingModel(grades=["Well, it depends."]))
    journal = tmp_path / "run.jsonl"
    with pytest.raises(CollectionError) as caught:
        collect(
            QUESTIONS,
            pool(),
            journal=journal,
            grader=Judge(judge),
            limits=Limits(concurrency=1, failures=3),
        )
    said = str(caught.value)
    assert "Grade of candidate" in said
    assert "Well, it depends." in said
    assert "in run.jsonl" in said
    assert len(lines(journal, "answer")) >= 3
    assert lines(journal, "grade") == []


def test_a_single_unreadable_grade_leaves_one_row_out_until_the_next_run(tmp_path):
    journal = tmp_path / "run.jsonl"
    model = GradingModel(grades=["Well.", {"grade": "very_good"}])
    args = {"journal": journal, "grader": Judge(Candidate("judge", model))}
    assert len(collect(QUESTIONS, pool(), **args).ids) == 5
    assert len(collect(QUESTIONS, pool(), **args).ids) == 6


def test_a_preference_that_does_not_survive_the_swap_is_a_tie():
    assert preference("A", "B") == 1.0
    assert preference("B", "A") == 0.0
    assert preference("A", "A") == preference("tie", "B") == 0.5


def test_a_pairwise_judge_gives_battles_and_win_rates(tmp_path):
    model = GradingModel(grades=[{"better": "B"}, {"better": "A"}])
    done = collect(
        QUESTIONS[:1],
        pool(),
        journal=tmp_path / "run.jsonl",
        grader=PairwiseJudge(Candidate("judge", model)),
    )
    assert done.battles.score_a.tolist() == [0.0]
    assert done.outcomes.quality.tolist() == [[0.0, 1.0]]
    assert "<answer_A>\n1\n</answer_A>" in model.prompts[0]
    assert "<answer_A>\n0\n</answer_A>" in model.prompts[1]


# What the candidates think of their answers


def said(text: str, **probabilities: float) -> AIMessage:
    top = [{"token": t, "logprob": math.log(p)} for t, p in probabilities.items()]
    token = {"token": text, "logprob": math.log(0.5), "top_logprobs": top}
    return AIMessage(text, response_metadata={"logprobs": {"content": [token]}})


def test_k_verdicts_come_from_one_request_and_silence_is_missing(tmp_path):
    model = SamplingModel(said("0"), "Yes", "no.", "Y", "perhaps")
    done = collect(
        QUESTIONS[:1],
        [Candidate("one", model, PRICE)],
        journal=tmp_path / "run.jsonl",
        grader="number",
        verifiers={"self": YesNo(4)},
    )
    evaluations = done.evaluations["self"]
    assert evaluations.confidence.tolist() == [[pytest.approx(2 / 3)]]
    assert evaluations.verdicts[0, 0, :3].tolist() == [1, 0, 1]
    assert math.isnan(evaluations.verdicts[0, 0, 3])
    assert done.evaluations["answer_logprob"].confidence.tolist() == [[pytest.approx(0.5)]]


def test_answers_are_asked_for_with_what_verifiers_need(tmp_path):
    done = collect(
        QUESTIONS[:1],
        [Candidate("one", SamplingModel(said("0")), PRICE)],
        journal=tmp_path / "run.jsonl",
        grader="number",
        verifiers={"sure": AnswerLogprob()},
    )
    assert done.evaluations["sure"].confidence.tolist() == [[pytest.approx(0.5)]]


def test_a_verdict_is_read_from_the_first_token_s_probabilities(tmp_path):
    model = SamplingModel(said("0"), said("No", No=0.6, Yes=0.2, yes=0.1, Maybe=0.1))
    done = collect(
        QUESTIONS[:1],
        [Candidate("one", model, PRICE)],
        journal=tmp_path / "run.jsonl",
        grader="number",
        verifiers={"p": YesNo(read="probability")},
    )
    assert done.evaluations["p"].confidence.tolist() == [[pytest.approx(1 / 3)]]


def test_a_verifier_can_be_added_to_a_finished_journal(tmp_path):
    journal = tmp_path / "run.jsonl"
    collect(QUESTIONS, pool(), journal=journal, grader="number")
    candidates = [Candidate(c.name, SamplingModel("Yes"), PRICE) for c in pool()]
    done = collect(
        QUESTIONS,
        candidates,
        journal=journal,
        grader="number",
        verifiers={"self": YesNo(2)},
        verify_last=True,
    )
    assert done.evaluations["self"].confidence.tolist() == [[1.0, 1.0]] * 6
    assert done.outcomes.quality.tolist() == [[0.0, 1.0]] * 6


@pytest.mark.parametrize("bad", [{"n_samples": 0}, {"read": "tea leaves"}])
def test_senseless_verifiers_are_refused(bad):
    with pytest.raises(ValueError, match="must be"):
        YesNo(**bad)


def test_journals_over_different_questions_are_read_as_one_table(tmp_path):
    collect(QUESTIONS[:2], pool(), journal=tmp_path / "a.jsonl", grader="number")
    collect(QUESTIONS[2:], pool(), journal=tmp_path / "b.jsonl", grader="number")
    done = load_journal(tmp_path / "a.jsonl", tmp_path / "b.jsonl")
    assert done.ids == tuple(q.id for q in QUESTIONS)


def test_journals_of_different_candidates_are_read_as_one_table(tmp_path):
    for candidate in pool():
        path = tmp_path / f"{candidate.name}.jsonl"
        collect(QUESTIONS, [candidate], journal=path, grader="number")
    done = load_journal(tmp_path / "weak.jsonl", tmp_path / "strong.jsonl")
    assert done.outcomes.candidates == ("weak", "strong")
    assert done.outcomes.quality.tolist() == [[0.0, 1.0]] * 6


def test_a_journal_without_a_complete_row_says_what_is_lacking(tmp_path):
    (tmp_path / "run.jsonl").write_text(
        '{"kind": "run", "settings": {"candidates": ["a"]}}\n'
        '{"kind": "question", "id": "q1", "query": "?"}\n'
    )
    with pytest.raises(ValueError, match="'q1': 'a' has not answered"):
        load_journal(tmp_path / "run.jsonl")


# Groups of equal answers


def test_old_journals_tell_which_answers_are_the_same_and_how_long_they_are(tmp_path):
    pool = [Candidate(n, Adder(off_by=o), PRICE) for n, o in (("a", 1), ("b", 0), ("c", 1))]
    done = collect(
        QUESTIONS[:2], pool, grader=NumberMatch(), journal=tmp_path / "run.jsonl", limits=FAST
    )
    groups = done.evaluations["answer_groups"]
    assert groups.answer_groups.tolist() == [[0, 1, 0]] * 2
    assert not groups.has_scores
    assert groups.cost_usd.tolist() == [[0.0] * 3] * 2
    assert groups.verifier["kind"] == "AnswerGroups"
    np.testing.assert_array_equal(done.outcomes.output_tokens, done.output_tokens)


def test_answers_that_are_cut_off_or_say_nothing_are_in_no_group_of_a_journal(tmp_path):
    cut_off = AIMessage("5", response_metadata={"finish_reason": "length"})
    judge = Candidate("judge", CapableModel(verdict="Same"), PRICE)
    said = {"a": cut_off, "b": cut_off, "c": AIMessage("5"), "d": AIMessage("I don't know.")}
    done = collect(
        QUESTIONS[:1],
        [Candidate(name, ScriptedModel(answer), PRICE) for name, answer in said.items()],
        grader=ExactMatch(),
        journal=tmp_path / "run.jsonl",
        limits=FAST,
        verifiers={"meaning": AnswerGroups(judge=judge)},
    )
    assert done.evaluations["answer_groups"].answer_groups.tolist() == [[-1, -1, 0, -1]]
    assert done.evaluations["meaning"].answer_groups.tolist() == [[-1, -1, 0, -1]]
    lines = (tmp_path / "run.jsonl").read_text()
    assert lines.count('"answer_group": null') == 3


def test_a_judge_groups_free_text_once_all_have_answered(tmp_path):
    texts = {name: f"{word} " * 60 for name, word in (("a", "one"), ("b", "two"), ("c", "three"))}
    judge = Candidate("judge", CapableModel(verdict="Different"), PRICE)
    pool = [Candidate(name, ScriptedModel(text), PRICE) for name, text in texts.items()]
    for _ in range(2):
        done = collect(
            QUESTIONS[:2],
            pool,
            grader=ExactMatch(),
            journal=tmp_path / "run.jsonl",
            limits=FAST,
            verifiers={"meaning": AnswerGroups(judge=judge)},
        )
        table = done.evaluations["meaning"]
        assert table.answer_groups.tolist() == [[0, 1, 2]] * 2
        assert (table.cost_usd[:, 2] > table.cost_usd[:, 1]).all()
        # The second time everything is in the journal.
        assert len(judge.model.calls) == 2 * (1 + 2)
    assert done.evaluations["answer_groups"].answer_groups.tolist() == [[-1, -1, -1]] * 2


def test_groups_of_two_journals_were_not_compared_with_each_other(tmp_path):
    judge = Candidate("judge", CapableModel(verdict="Different"), PRICE)
    paths = []
    for name in ("a", "b"):
        pool = [Candidate(name, Adder(), PRICE)]
        paths.append(tmp_path / f"{name}.jsonl")
        collect(
            QUESTIONS[:1], pool, grader=NumberMatch(), journal=paths[-1], limits=FAST,
            verifiers={"meaning": AnswerGroups(judge=judge)},
        )  # fmt: skip
    both = load_journal(*paths).evaluations
    assert "meaning" not in both
    assert both["answer_groups"].answer_groups.tolist() == [[0, 0]]
