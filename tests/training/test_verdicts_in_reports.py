"""No report says what the numbers beside it contradict, whatever the data are."""

import json
import re
from functools import cache
from types import SimpleNamespace

import numpy as np
import pytest

from langchain_llm_router.apps.cli.fit_report import _markdown, saved_line
from langchain_llm_router.data import Outcomes
from langchain_llm_router.estimators import QualityEstimator
from langchain_llm_router.evaluation import parse_targets
from langchain_llm_router.policies import Always
from langchain_llm_router.training import fit_router

N_DATA_SETS = 200
TARGETS = (
    None,
    "quality >= best - 1 point",
    "quality >= best - 5 points",
    "at least 95 % of strong",
    "quality >= 0.6",
    "cost <= half of strong",
    "quality >= best - 10 points and cost <= 0.8 * best",
)


class Hints(QualityEstimator):
    """Predicts from a number in the query: what is fitted costs nothing here."""

    def _fit(self, data):
        self.means_ = data.quality.mean(axis=0)

    def _predict(self, queries):
        hint = np.array([float(query.split()[-1]) for query in queries])
        lift = np.linspace(1, 0, len(self.means_))
        return self.means_ + np.outer(hint - 0.5, lift)

    def _arrays(self):
        return {"means": self.means_}

    def _restore(self, settings, arrays, embeddings):
        self.means_ = arrays["means"]


def simulate(seed):
    """Data of any size and price, with a signal, without one, or with equal candidates."""
    rng = np.random.default_rng(seed)
    n = int(rng.choice([2, 3, 5, 20, 60, 120, 250]))
    k = int(rng.choice([2, 2, 3]))
    hint = rng.random(n)
    skill = np.sort(rng.uniform(0.3, 1.0, k)) if rng.random() < 0.7 else np.full(k, rng.random())
    signal = rng.choice([0.0, 0.3, 0.6])
    chance = np.clip(skill + signal * np.outer(hint - 0.5, np.linspace(1, 0.2, k)), 0, 1)
    shared = rng.random((n, 1)) if rng.random() < 0.6 else rng.random((n, k))
    quality = (shared < chance).astype(float)
    if rng.random() < 0.2:
        quality = np.clip(chance + rng.normal(0, 0.1, (n, k)), 0, 1)
    cost = np.geomspace(1e-4, rng.choice([1.2e-4, 1e-3, 1e-2]), k) * rng.gamma(4, 0.25, (n, k))
    names = ("weak", "middle", "strong")[:: 2 if k == 2 else 1]
    queries = [f"question {i} {hint[i]:.4f}" for i in range(n)]
    return Outcomes(queries, names, quality, cost)


@cache
def reports():
    """The words and the numbers of each data set."""
    made = []
    for seed in range(N_DATA_SETS):
        table = simulate(seed)
        target = TARGETS[seed % len(TARGETS)]
        lambda_ = 50.0 if seed % 11 == 0 else None
        try:
            fitted = fit_router(
                table,
                target=None if lambda_ else target,
                lambda_=lambda_,
                estimators={"hints": Hints},
                even_if_worse=seed % 7 == 0,
                n_folds=3,
                seed=seed,
            )
        except ValueError:
            # Nothing can be fitted on some of the smallest, so nothing is said.
            continue
        figures = json.loads(json.dumps(fitted.verdict.as_dict(), allow_nan=False))
        made.append(
            SimpleNamespace(
                seed=seed,
                fitted=fitted,
                figures=figures,
                sentence=figures["sentence"],
                saved=saved_line(fitted),
                text=_markdown(fitted, folder="router", notes=""),
                **{name: figures[name] for name in ("verdict", "reason", "best_single")},
            )
        )
    return made


def each(outcome=None):
    """The reports, and that there are enough of them for a test to mean something."""
    found = [it for it in reports() if outcome in (None, it.verdict)]
    assert len(found) >= (N_DATA_SETS * 3 // 4 if outcome is None else 3)
    return found


def test_every_outcome_occurs_and_nearly_every_data_set_gets_a_report():
    assert {it.verdict for it in each()} == {"kept", "not_kept", "unknown"}


def test_what_is_kept_is_proven_by_the_numbers_beside_it():
    for it in each("kept"):
        verdict = it.fitted.verdict
        assert it.figures["use_instead"] is None
        assert verdict.margin.value > 0
        if it.fitted.goal.lambda_ is not None:
            continue
        for target in parse_targets(verdict.goal):
            if target.metric == "quality" and target.best and target.value == 1:
                assert verdict.gap_bound >= -target.less - 1e-9, it.seed
        if it.fitted.goal.is_about_quality:
            assert verdict.saved.low > -0.02, it.seed
            assert verdict.saved.value > 0, it.seed


def savings(head):
    """The value and the ends of a saving in words, in percent; positive is cheaper."""
    value, word, ends = re.match(r"(\d+) % (cheaper|dearer) than `\w+` \((.+?)\)", head).groups()
    signs = {"cheaper": 1, "dearer": -1}

    def read(text):
        if text == "any amount dearer":
            return None
        share, own = re.fullmatch(r"(\d+)(?: % (cheaper|dearer))?", text).groups()
        return signs[own or word] * int(share)

    low, high = (read(end) for end in ends.split(" to "))
    compact = not re.search("cheaper|dearer", ends)
    return signs[word] * int(value), *((high, low) if compact and word == "dearer" else (low, high))


def test_cheaper_and_dearer_have_the_sign_of_the_number():
    for it in each():
        saved = it.fitted.verdict.saved
        head = it.sentence.split(": ")[0]
        assert ("dearer" if saved.value < 0 else "cheaper") in head, it.seed
        share, low, high = savings(head)
        assert low is None or low <= share, it.sentence
        assert share <= high, it.sentence


def test_the_numbers_of_the_sentence_are_those_of_the_json():
    for it in each():
        verdict = it.figures
        found = re.search(r"than `(\w+)` .*quality (\S+) points \((\S+) to (\S+)\): ", it.sentence)
        assert found is not None, it.sentence
        name, *points = found.groups()
        assert name == verdict["best_single"]
        for told, share in zip(savings(it.sentence), verdict["saved"], strict=True):
            assert told is share is None or told == pytest.approx(100 * share, abs=0.51)
        for text, end in zip(points, verdict["quality_above_best_single"], strict=True):
            assert float(text) == pytest.approx(100 * end, abs=0.051)


def test_a_router_that_is_not_kept_is_not_recommended_and_not_saved_without_being_asked_for():
    for it in [*each("not_kept"), *each("unknown")]:
        named = it.figures["use_instead"]
        advice = {
            True: f"use `{named}` alone",
            False: f"no single model here keeps it either, the best is `{named}`",
            None: f"the best single model is `{named}`",
        }
        assert advice[it.figures["use_keeps_target"]] in it.sentence, it.sentence
        assert "is kept with" not in it.text
        assert "The target is kept." not in it.text
        assert not re.search(r"\b(saves?|worth it)\b", it.sentence)
        assert not re.search(r"\bsaves\b", it.text.split("## The contenders")[0].replace(
            "`--even-if-worse` saves", ""))  # fmt: skip
        if it.fitted.router is it.fitted.winner:
            assert it.seed % 7 == 0
            assert it.saved.startswith("Saved all the same, as asked")
        else:
            assert it.fitted.router.candidates == (named,)
            assert it.fitted.router.policy == Always(named)
            assert it.saved.startswith(f"Saved: `{named}` alone.")


def test_every_sentence_is_one():
    for it in each():
        assert it.sentence.endswith(".")
        assert not re.search(r"[,;:] *[.;:,]|  | \.|None|nan|inf\b", it.sentence), it.sentence


def test_the_head_of_the_report_is_that_of_the_outcome():
    heads = {
        "kept": "**The target is kept.**",
        "not_kept": "**Routing is not worth it here.**",
        "unknown": "**It cannot be said yet.**",
    }
    for it in each():
        assert f"{heads[it.verdict]} {it.sentence}" in it.text
        assert sum(head in it.text for head in heads.values()) == 1


def test_unknown_says_that_more_rows_are_needed_and_the_others_do_not():
    for it in each():
        asks = "more" in it.sentence and "it needs about" in it.sentence
        assert asks == (it.verdict == "unknown"), it.sentence
        if it.verdict == "unknown":
            assert it.figures["more_rows"] > 0
            told = int(re.search(r"it needs about ([\d,]+) more", it.sentence)[1].replace(",", ""))
            assert it.figures["more_rows"] <= told <= 1.1 * it.figures["more_rows"] + 1
        else:
            assert it.figures["more_rows"] is None


def test_few_questions_prove_nothing():
    for it in each("kept"):
        assert it.figures["n_rows"] >= 20, it.seed


def test_the_table_of_the_report_has_the_money_of_the_verdict():
    for it in each():
        cells = dict(
            re.findall(
                r"^\| (?:\*\*)?([\w ]+?)(?:\*\*)? \| .*?\| (?:\*\*)?\$([\d.e+-]+)", it.text, re.M
            )
        )
        ours, best = float(cells["this router"]), float(cells[f"{it.best_single} alone"])
        assert 1 - ours / best == pytest.approx(it.figures["saved"][0], abs=1e-2, rel=1e-2)
