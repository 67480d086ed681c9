"""Does the package do what the article does? One line per row of the audit of the article.

    OMP_NUM_THREADS=1 python tests/benchmarks/article.py --json

Every row is a test in `tests/article`, run here with the slow ones. `works`: as in the article.
`option`: the article's way is one argument away, and the test uses it. `reason`: our way is better
by the figure that is given, and the article's way is not offered. `absent`: there is no test, or it
failed or was skipped. Exit status 1 if a row is absent, or more than five are reasons.
"""

import argparse
import contextlib
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support.article_rows import MOST_REASONS, NUMBERS, Row
from tests.support.paths import ROOT


class Rows:
    """A pytest plugin that notes for each row what became of its tests."""

    def __init__(self) -> None:
        self.row_of: dict[str, Row] = {}
        self.problems: dict[int, str] = {}
        self.passed: Counter[int] = Counter()

    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        for item in items:
            found = getattr(item.function, "article_row", None)
            if found is not None:
                self.row_of[item.nodeid] = found

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        found = self.row_of.get(report.nodeid)
        if found is None:
            return
        if report.skipped:
            reason = report.longrepr[-1] if isinstance(report.longrepr, tuple) else "skipped"
            self.problems[found.number] = str(reason)
        elif report.failed:
            self.problems[found.number] = f"{report.nodeid} failed"
        elif report.when == "call":
            self.passed[found.number] += 1

    def lines(self) -> list[dict[str, Any]]:
        """Return one line per row of the audit."""
        rows = {row.number: row for row in self.row_of.values()}
        found = []
        for number in NUMBERS:
            row, problem = rows.get(number), self.problems.get(number)
            if row is None or problem is not None or self.passed[number] == 0:
                does = "" if row is None else row.does
                why = problem or "there is no test"
                found.append({"row": number, "does": does, "state": "absent", "why": why})
            else:
                line = {"row": number, "does": row.does, "state": row.kind}
                found.append({**line, "why": row.why} if row.why else line)
        return found


def main() -> int:
    """Run the tests and print the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="print every row as a JSON line")
    as_json = parser.parse_args().json
    rows = Rows()
    # What pytest prints goes to stderr: the rows alone are the result.
    with contextlib.redirect_stdout(sys.stderr):
        pytest.main(
            [str(ROOT / "tests" / "article"), "-q", "-n", "0", "-m", "", f"--rootdir={ROOT}"],
            plugins=[rows],
        )
    lines = rows.lines()
    for line in lines:
        why = f" ({line['why']})" if "why" in line else ""
        print(
            json.dumps(line)
            if as_json
            else f"{line['row']:2d} {line['state']}: {line['does']}{why}"
        )
    states = Counter(line["state"] for line in lines)
    total = {"rows": len(lines), "works": states["works"], "options": states["option"]}
    print(json.dumps({**total, "reasons": states["reason"], "absent": states["absent"]}))
    return int(states["absent"] > 0 or states["reason"] > MOST_REASONS)


if __name__ == "__main__":
    sys.exit(main())
