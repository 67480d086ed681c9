"""Money, scores and shares are written by one rule: in texts, in pictures and on the page."""

import ast
import json
import math
import re
import shutil
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from langchain_llm_router.types.figures import format_score, format_share, format_usd
from tests.support.paths import PACKAGE

SERVER = PACKAGE / "apps" / "server"

AMOUNTS = [
    None, 0, 0.0, 1, 2.5, 10, 1234, 1234567.891, 0.3, 0.1, 0.01, 0.001, 0.999, 0.9996, 0.99999,
    0.125, 0.3125, 1.125, 1.375, 0.0625, 2**-10, 0.012, 0.00012345, 1e-7, 4.2e-9, 1e-12, -2.5,
    -0.004, 99.995, 999.999, 0.1 + 0.2,
]  # fmt: skip
SHARES = [0, 1, 0.5, 0.125, 0.135, 0.005, 0.015, 0.4612, 0.0625, 0.1875, 0.0005, 0.0015, 1 / 3]


@given(st.floats(min_value=1e-9, max_value=1e9))
def test_money_has_cents_and_is_within_half_of_its_last_digit(usd):
    text = format_usd(usd)
    assert re.fullmatch(r"\$\d{1,3}(,\d{3})*\.\d{2,}", text)
    amount = float(text[1:].replace(",", ""))
    assert amount == pytest.approx(usd, rel=0.0051, abs=0)
    assert amount == pytest.approx(usd, abs=0.005)
    assert format_usd(-usd) == f"−{text}"


def test_unknown_money_is_never_nothing():
    assert [format_usd(None), format_usd(math.nan)] == ["unknown"] * 2
    assert format_usd(None, unknown="price unknown") == "price unknown"
    assert format_usd(0) == "$0.00"
    assert format_usd(math.inf) == "$inf"


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
def test_the_page_writes_the_same_as_the_package():
    script = (SERVER / "page_figures.js").read_text(encoding="utf-8")
    given = json.dumps([AMOUNTS, SHARES])
    script += f"""
    const [amounts, shares] = {given};
    console.log(JSON.stringify([amounts.map(money), shares.map(score), shares.map(percent)]));
    """
    done = subprocess.run(
        ["node", "-"], input=script, capture_output=True, text=True, check=True, timeout=60
    )
    assert json.loads(done.stdout) == [
        [format_usd(usd) for usd in AMOUNTS],
        [format_score(share) for share in SHARES],
        [format_share(share) for share in SHARES],
    ]


def formatted_elsewhere(source: str) -> list[str]:
    """Parts of f-strings that write money, a share or a score without the rule."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.JoinedStr):
            continue
        before = ""
        for part in node.values:
            if isinstance(part, ast.Constant):
                before = str(part.value)
                continue
            spec = "" if part.format_spec is None else ast.unparse(part.format_spec)[2:-1]
            code = ast.unparse(part)
            is_money = before.endswith("$") and "cents" not in code and "whole" not in code
            is_score = re.search(r"(?:\bscore|\bP|\bP\(\w+\)|\bAUROC)[ =<>]*$", before)
            rounded_otherwise = re.search(r"\.[0-24-9][fg]$", spec)
            if is_money or spec.endswith("%") or (is_score and rounded_otherwise):
                found.append(before[-20:] + code)
            before = ""
    return found


def test_no_text_of_the_package_writes_money_a_share_or_a_score_otherwise():
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_text(encoding="utf-8")
        if path.name == "start_command.py":
            source = source.replace('f"$ {self}"', "''")  # a prompt of a shell
        assert formatted_elsewhere(source) == [], path
    assert len(formatted_elsewhere('f"${x:.2f} {y:.0%} score {z:.2f} P {p:.1f}"')) == 4


def test_no_script_of_the_page_rounds_by_itself():
    page = (SERVER / "page.js").read_text(encoding="utf-8")
    dial = next(line for line in page.splitlines() if "const rounded = lambda" in line)
    for word in ("toFixed", "toPrecision", "toLocaleString", "$${"):
        assert word not in page.replace(dial, ""), word
    assert '">$0<' not in (SERVER / "page.html").read_text(encoding="utf-8")
