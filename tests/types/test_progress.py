"""Progress is counted before each step, and a bar shows it where somebody can see it."""

import io
import re

import pytest

from langchain_llm_router.types.progress import Bar, Progress, track

rich = pytest.importorskip("rich.console")


def bar(*, terminal, **options):
    drawn = io.StringIO()
    console = rich.Console(file=drawn, width=100, force_terminal=terminal, color_system=None)
    return drawn, Bar(console=console, **options)


def test_steps_are_reported_before_they_are_done_and_a_loop_also_at_its_end():
    told = []
    steps = Progress(lambda *step: told.append(step), 2)
    steps.begin("fitting")
    steps.begin("testing")
    assert told == [("fitting", 0, 2), ("testing", 1, 2)]
    told.clear()
    assert list(track("ab", "reading", lambda *step: told.append(step))) == ["a", "b"]
    assert told == [("reading", 0, 2), ("reading", 1, 2), ("reading", 2, 2)]
    assert list(track("ab", "reading", None)) == ["a", "b"]


def test_a_bar_shows_what_is_done_how_far_it_has_come_and_the_note():
    drawn, shown = bar(terminal=True, what="starting", keep=True)
    with shown:
        shown.note = "$1"
        for _ in track("abc", "reading", shown):
            pass
    assert "starting" in drawn.getvalue()
    last = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn.getvalue()).rstrip().splitlines()[-1]
    assert re.search(r"✓ reading .* 3/3 · .*0:00:00 · \$1$", last)


def test_a_second_series_of_steps_has_a_rate_of_its_own():
    _, shown = bar(terminal=True)
    with shown:
        for done in range(100):
            shown("fast", done, 100)
        shown("slow", 0, 100)
        assert shown.figures == "0/100 · 0:00:00"


def test_without_a_terminal_nothing_is_drawn():
    drawn, shown = bar(terminal=False, what="starting", keep=True)
    with shown:
        shown("reading", 1, 2)
    assert drawn.getvalue() == ""
