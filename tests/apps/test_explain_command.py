"""`llm-router explain`."""

import os

import numpy as np
import pytest

from tests.support.commands import last_json
from tests.support.saved_routers import SAID, TABLE

pytest.importorskip("typer")

pytest.importorskip("rich")


def test_explain_tells_why_and_draws_it(run):
    pytest.importorskip("matplotlib")
    arguments = ("--data", "run.jsonl", "--picture", "why.png", "--json")
    code, out, err = run("explain", "route", "prove hard theorem", *arguments)
    assert code == 0, err
    figures = last_json(out)
    assert figures["candidate"] == "large"
    assert "λ (quality per USD, higher is cheaper), now 20" in out
    assert len(figures["neighbors"]) == 5
    assert os.path.getsize("why.png") > 10_000


def test_explain_follows_a_recorded_question_to_its_end(run):
    row = int(np.flatnonzero(SAID.confidence[:, 0] > 0.8)[0])
    arguments = ("--data", "run.jsonl", "--json")
    code, out, err = run("explain", "cascade", TABLE.queries[row], *arguments)
    assert code == 0, err
    actions = [step["action"] for step in last_json(out)["steps"]]
    assert actions == ["ask", "verify", "accept"]
    code, out, _ = run("explain", "cascade", "a new question", *arguments)
    assert "decisions by the score of the first answer" in out
