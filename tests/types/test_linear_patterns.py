"""No text of any size freezes the process: every regular expression takes linear time."""

import re
import time

import pytest

from langchain_llm_router.estimators.text_features import surface_features
from langchain_llm_router.types.options import Filter, RoutingOptions
from langchain_llm_router.types.secrets import redact
from langchain_llm_router.verification import normalized
from langchain_llm_router.verification.prompt_fence import fence, speaks_to_its_judge
from tests.support.hard_inputs import HardInput, hard_inputs, patterns, seconds

SMALL, LARGE = 2_000, 200_000
# How many inputs go on after each size: the slowest.
N_SLOWEST = {400: 30, SMALL: 3, 5_000: 3, 10_000: 2, 20_000: 2, 40_000: 1, LARGE: 1}
PATTERNS = patterns()


def slow_input(source: str, flags: int) -> HardInput | None:
    """Return an input for which time grows faster than length; None if none was found."""
    pattern = re.compile(source, flags)
    inputs = hard_inputs(source, flags)
    # First texts so short that cubic time still ends soon, then the slowest of them longer. In many
    # steps, so that quadratic time shows before it takes seconds: linear, 200 kB take some ten
    # milliseconds.
    for size, n_slowest in N_SLOWEST.items():
        timed = []
        for given in inputs:
            timed.append((seconds(pattern, given.of_size(size)), given))
            if timed[-1][0] > (0.05 if size <= SMALL else size / LARGE + 0.2):
                return given
        inputs = [given for _, given in sorted(timed, reverse=True)[:n_slowest]]
    return None


def test_the_patterns_of_the_package_are_found():
    assert len(PATTERNS) > 25
    assert any(where.startswith("types/secrets.py") for where in PATTERNS)


@pytest.mark.parametrize("where", PATTERNS)
def test_every_pattern_takes_linear_time_on_its_worst_inputs(where):
    worst = slow_input(*PATTERNS[where])
    assert worst is None, f"{where} is slow on {worst!r}: make its quantifiers possessive"


@pytest.mark.parametrize(
    "source",
    [r"^\s*([a-z]+)\s*<\s*([^\s<>=]+?)\s*(ms|s)?\s*$", r"[.!?]+(?=\s|$)",
     r"\beyJ[\w\-]{10,}\.[\w\-]{10,}", r"^```[ \t]*(\w*)[^\n]*\n", r"<(\s*/?\s*)answer"],
)  # fmt: skip
def test_a_slow_pattern_would_be_found(source):
    assert slow_input(source, re.MULTILINE) is not None


@pytest.mark.parametrize(
    "unit",
    [" ", ".", "?!", "<", "< ", "1", "1,", "eyJ-", "```\n", "://", "a@", "\u200b", "answer "],
)
@pytest.mark.parametrize(
    "read",
    [redact, speaks_to_its_judge, normalized, lambda text: fence({"answer": text}),
     lambda text: surface_features([text])],
    ids=["redact", "speaks_to_its_judge", "normalized", "fence", "surface_features"],
)  # fmt: skip
def test_what_reads_user_text_reads_200_kb_within_a_second(read, unit):
    text = unit * (LARGE // len(unit)) + "x"
    started = time.process_time()
    read(text)
    assert time.process_time() - started < 1


@pytest.mark.parametrize("text", ["q<1" + " " * LARGE + "x", "q<" + "1" * LARGE, " " * LARGE])
def test_a_long_filter_is_refused_at_once(text):
    started = time.process_time()
    with pytest.raises(ValueError, match=r"filter|number"):
        Filter.parse(text)
    with pytest.raises(ValueError, match=r"Unknown part|number|start with"):
        RoutingOptions.parse(f"router@{text}x:")
    assert time.process_time() - started < 1


@pytest.mark.parametrize(
    ("text", "limit"),
    [("itl<20", 0.02), ("itl < 20 ms", 0.02), ("itl<20ms", 0.02), ("ttft<=0.5s", 0.5),
     ("ttft<1e-1 s ", 0.1)],
)  # fmt: skip
def test_filters_read_as_before(text, limit):
    assert Filter.parse(text).limit == pytest.approx(limit)
