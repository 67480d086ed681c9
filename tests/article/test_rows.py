"""Every row of the audit has one test, and few say that the article's way is not offered."""

import importlib
from collections import Counter

import pytest

from tests.benchmarks.article import Rows
from tests.support.article_rows import MOST_REASONS, NUMBERS, Row, row
from tests.support.paths import ROOT


def rows() -> list[Row]:
    found = []
    for path in sorted((ROOT / "tests" / "article").glob("test_*.py")):
        module = importlib.import_module(f"tests.article.{path.stem}")
        marked = (getattr(test, "article_row", None) for test in vars(module).values())
        found += [each for each in marked if each is not None]
    return found


def test_every_row_has_one_test():
    assert Counter(each.number for each in rows()) == Counter(NUMBERS)


def test_for_at_most_five_rows_the_articles_way_is_not_offered():
    assert sum(each.kind == "reason" for each in rows()) <= MOST_REASONS


@pytest.mark.parametrize(
    ("number", "marks"), [(0, {}), (78, {}), (1, {"kind": "reason"}), (1, {"why": "it is better"})]
)
def test_a_row_that_is_not_in_the_audit_or_gives_no_reason_is_refused(number, marks):
    with pytest.raises(ValueError, match=f"Row {number}"):
        row(number, "something", **marks)


def test_a_row_without_a_test_that_passed_is_absent():
    ended = {"a": "passed", "b": "skipped", "c": "failed"}
    seen = Rows()
    for number, (name, outcome) in enumerate(ended.items(), 1):
        seen.row_of[name] = Row(number, f"does {name}", "works", "")
        reason = ("file.py", 1, "Skipped: no weights") if outcome == "skipped" else "what was wrong"
        place = ("file.py", 1, name)
        seen.pytest_runtest_logreport(
            pytest.TestReport(name, place, {}, outcome, reason, when="call")
        )
    states = [(line["state"], line.get("why")) for line in seen.lines()[:4]]
    assert states == [
        ("works", None),
        ("absent", "Skipped: no weights"),
        ("absent", "c failed"),
        ("absent", "there is no test"),
    ]
