"""What a run pays for is said first, and what cannot be read stops it after its first rows."""

import io
import json
import re

import pytest

from langchain_llm_router import Candidate, Price
from langchain_llm_router.collect import Limits, Watcher, collect
from langchain_llm_router.collect.terminal_watcher import TerminalWatcher
from langchain_llm_router.types.errors import CollectionError
from langchain_llm_router.verification import YesNo
from tests.support.fakes import ScriptedModel

PRICE = Price(1.0, 2.0)
ROWS = [{"query": f"What is {i} + {i}?", "reference": str(2 * i)} for i in range(50)]


class Judging(ScriptedModel):
    """Adds right, and says the same of each of its answers."""

    verdict: str = "Yes"
    answers: str = ""

    def _next(self, messages):
        said = str(messages[-1].text)
        if said.startswith("What is"):
            self.script = [self.answers or str(2 * int(said.split()[2]))]
        else:
            self.script = [self.verdict]
        return super()._next(messages)


def verdicts_asked(candidate):
    return sum("Is this answer" in messages[-1].text for messages in candidate.model.seen)


class Asked(Watcher):
    def __init__(self, goes_on):
        self.goes_on, self.poor, self.quote = goes_on, [], None

    def confirm(self, quote):
        self.quote = quote
        return True

    def confirm_unreadable(self, poor):
        self.poor += map(str, poor)
        return self.goes_on


def pool(price=PRICE, **settings):
    names = ("small", "large")
    models = [Judging("x", **settings if name == "small" else {}) for name in names]
    return [Candidate(n, m, price) for n, m in zip(names, models, strict=True)]


def run(path, candidates, n=50, **settings):
    settings = {"verifiers": {"self": YesNo(1)}, "limits": Limits(concurrency=2), **settings}
    return collect(ROWS[:n], candidates, journal=path, grader="number", **settings)


# Before the first call


def test_the_quote_is_split_by_what_is_paid_for(tmp_path):
    watcher = Asked(goes_on=True)
    run(tmp_path / "run.jsonl", pool(), n=3, watcher=watcher)
    kinds = [(p.kind, p.candidate, p.model, p.expected.calls) for p in watcher.quote.parts]
    assert kinds == [
        ("answers", "small", "small", 3),
        ("verdicts", "small", "small", 3),
        ("answers", "large", "large", 3),
    ]
    *lines, total = str(watcher.quote).splitlines()
    assert lines[0].startswith("answers of small: 3 calls, about ")
    assert lines[1].startswith("verdicts on small by small: 3 calls, about ")
    assert lines[2].startswith("answers of large: 3 calls, about ")
    assert total.startswith("In all 9 calls, about $0.00")
    assert re.search(r": answers about \$0\.\d+, verdicts about \$0\.\d+\.$", total)


def test_one_call_is_said_in_the_singular(tmp_path):
    watcher = Asked(goes_on=True)
    run(tmp_path / "run.jsonl", pool()[:1], n=1, watcher=watcher, verifiers={})
    assert str(watcher.quote).startswith("answers of small: 1 call, about ")
    assert "\nIn all 1 call, about " in str(watcher.quote)


def test_the_last_candidate_judges_itself_only_if_asked(tmp_path):
    candidates = pool()
    done = run(tmp_path / "a.jsonl", candidates, n=3)
    assert [verdicts_asked(c) for c in candidates] == [3, 0]
    assert done.n_verdicts == (3, 3)
    again = pool()
    run(tmp_path / "a.jsonl", again, n=3, verify_last=True)
    assert [verdicts_asked(c) for c in again] == [0, 3]
    alone = pool()[1:]
    run(tmp_path / "b.jsonl", alone, n=3)
    assert verdicts_asked(alone[0]) == 3


def terminal(**settings):
    rich = pytest.importorskip("rich.console")
    console = rich.Console(file=io.StringIO(), width=300)
    return TerminalWatcher(console=console, **settings)


def test_unknown_prices_are_refused_before_the_first_call(tmp_path):
    candidates = pool(price=None)
    words = r"price of small, large is unknown.*`--price small=input,output`.*`--without-prices`"
    with pytest.raises(CollectionError, match=words):
        run(tmp_path / "run.jsonl", candidates, n=3, watcher=terminal(yes=True))
    assert candidates[0].model.seen == []
    watcher = terminal(yes=True, without_prices=True)
    assert len(run(tmp_path / "run.jsonl", candidates, n=3, watcher=watcher).ids) == 3


def test_unknown_prices_are_told_before_the_question_whether_to_begin(tmp_path, monkeypatch):
    prompt = pytest.importorskip("rich.prompt").Confirm
    asked = []
    monkeypatch.setattr(prompt, "ask", lambda text, console: asked.append(text))
    watcher = terminal()
    with pytest.raises(CollectionError, match="no call was made"):
        run(tmp_path / "run.jsonl", pool(price=None), n=3, watcher=watcher)
    assert asked == ["Begin without prices?"]
    shown = watcher._console.file.getvalue()
    assert "In all 9 calls, price unknown" in shown
    assert "The price of small, large is unknown" in shown


def test_without_anybody_to_ask_the_flag_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    with pytest.raises(CollectionError, match="pass `--yes`"):
        run(tmp_path / "run.jsonl", pool(), n=3, watcher=terminal())


# After the first rows


def test_a_run_whose_verdicts_cannot_be_read_stops_after_twenty_rows(tmp_path):
    journal, mute = tmp_path / "run.jsonl", pool(verdict="It adds up.")
    words = r"After the first 20 questions, verdicts of 'self' on 'small' readable: 0 of 20.*40 of"
    with pytest.raises(CollectionError, match=words):
        run(journal, mute)
    assert verdicts_asked(mute[0]) == 20
    # The same call goes on, and asks for the verdicts again that could not be read.
    mended = pool()
    done = run(journal, mended)
    assert [verdicts_asked(c) for c in mended] == [50, 0]
    assert sum(len(c.model.seen) for c in mended) == 2 * 50 - 40 + 50
    assert done.n_verdicts == (50, 50)
    third = pool()
    run(journal, third)
    assert [c.model.seen for c in third] == [[], []]


@pytest.mark.parametrize("goes_on", [True, False])
def test_a_watcher_is_asked_whether_to_go_on(tmp_path, goes_on):
    watcher, mute = Asked(goes_on), pool(verdict="It adds up.")
    if goes_on:
        done = run(tmp_path / "run.jsonl", mute, watcher=watcher)
        assert done.n_verdicts == (0, 50)
    else:
        with pytest.raises(CollectionError, match="same call resumes"):
            run(tmp_path / "run.jsonl", mute, watcher=watcher)
    assert watcher.poor == ["verdicts of 'self' on 'small' readable: 0 of 20"]


def test_grades_that_cannot_be_read_stop_a_run_too(tmp_path):
    words = "grades of 'small' readable: 0 of 20: use another grader"
    with pytest.raises(CollectionError, match=words):
        run(tmp_path / "run.jsonl", pool(answers="I would rather not say."))
    lines = [json.loads(line) for line in (tmp_path / "run.jsonl").read_text().splitlines()]
    assert sum(line["kind"] == "answer" for line in lines) == 40
    # The same call again asks for nothing before it stops again.
    again = pool(answers="I would rather not say.")
    with pytest.raises(CollectionError, match=words):
        run(tmp_path / "run.jsonl", again)
    assert [c.model.seen for c in again] == [[], []]


def test_with_yes_and_without_a_terminal_only_what_is_wholly_unreadable_stops(tmp_path):
    mute = pool(verdict="It adds up.")
    with pytest.raises(CollectionError, match="0 of 20"):
        run(tmp_path / "run.jsonl", mute, watcher=terminal(yes=True))

    class Half(Judging):
        def _next(self, messages):
            self.verdict = "Yes" if len(self.seen) % 6 < 2 else "Hm."
            return super()._next(messages)

    candidates = [Candidate("small", Half("x"), PRICE), *pool()[1:]]
    done = run(tmp_path / "other.jsonl", candidates, watcher=terminal(yes=True))
    n_read, n_all = done.n_verdicts
    assert 5 <= n_read < 25
    assert n_all == 50


def test_a_terminal_is_asked_whether_to_go_on(tmp_path, monkeypatch):
    rich = pytest.importorskip("rich.console")
    prompt = pytest.importorskip("rich.prompt").Confirm
    asked = []
    monkeypatch.setattr(prompt, "ask", lambda text, console: asked.append(text) or True)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    console = rich.Console(file=io.StringIO(), width=200, force_terminal=True, color_system=None)
    with TerminalWatcher(console=console) as watcher:
        run(tmp_path / "run.jsonl", pool(verdict="It adds up."), watcher=watcher)
    assert asked == ["Begin?", "Go on?"]
    assert "verdicts of 'self' on 'small' readable: 0 of 20: its replies" in console.file.getvalue()


async def test_the_same_holds_inside_a_running_loop(tmp_path):
    from langchain_llm_router.collect import acollect

    candidates = pool(verdict="It adds up.")
    with pytest.raises(CollectionError, match="0 of 20"):
        await acollect(
            ROWS,
            candidates,
            journal=tmp_path / "run.jsonl",
            grader="number",
            verifiers={"self": YesNo(1)},
        )
