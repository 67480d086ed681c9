"""The real tables on which cascades are compared: outcomes, verifier scores, costs."""

import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from langchain_llm_router.data import LocalModels, Outcomes, SelfEvaluations, split_indices
from langchain_llm_router.data.benchmarks import load_zeroeval
from langchain_llm_router.estimators import NearestNeighbors
from langchain_llm_router.verification import AnswerScorer

PANEL = ("gemini-1.5-flash", "deepseek-v2.5-0908", "gpt-4o-mini-2024-07-18")
PAIR = ("gpt-4o-mini-2024-07-18", "claude-3-5-sonnet-20241022")


@dataclass(frozen=True)
class Table:
    """One comparison: everything that was recorded, and what a one-shot router would predict."""

    name: str
    outcomes: Outcomes
    evaluations: SelfEvaluations
    n_samples: int
    predicted: np.ndarray | None = None
    """Predictions made elsewhere; None: learned here from the training rows' texts."""

    together: tuple[str, ...] | None = None
    """Rows with the same label stay on one side of a split: questions about one story."""

    def take(self, rows) -> "Table":
        """The given rows."""
        predicted = None if self.predicted is None else self.predicted[rows]
        return replace(
            self,
            outcomes=self.outcomes.take(rows),
            evaluations=self.evaluations.take(rows),
            predicted=predicted,
            together=None if self.together is None else tuple(np.array(self.together)[rows]),
        )

    def select(self, names) -> "Table":
        """The given candidates."""
        return replace(
            self,
            outcomes=self.outcomes.select(names),
            evaluations=self.evaluations.select(names),
        )


def predict(train: Table, *others: Table) -> list[np.ndarray]:
    """Predicted qualities: of the training rows (from the other folds), and of other tables."""
    if train.predicted is not None:
        return [train.predicted, *(table.predicted for table in others)]
    outcomes = train.outcomes
    inside = np.zeros(outcomes.quality.shape)
    for fold in split_indices(len(outcomes), [0.2] * 5, seed=7, groups=train.together):
        rest = np.setdiff1d(np.arange(len(outcomes)), fold)
        fitted = NearestNeighbors(n_neighbors=40).fit(outcomes.take(rest))
        inside[fold] = fitted.predict([outcomes.queries[i] for i in fold])
    whole = NearestNeighbors(n_neighbors=40).fit(outcomes)
    return [inside, *(whole.predict(list(table.outcomes.queries)) for table in others)]


def votes_tables(folder: Path) -> list[Table]:
    """Self-consistency of a weak model before GPT-4, priced as AutoMix prices it.

    Costs are relative (GPT-4 = 1): 1/100 for Llama-2-13B, 1/60 for GPT-3.5. All samples of the weak
    model count as one answer and the verification as another, since the prompt dominates.
    """
    votes = pd.read_parquet(folder / "cascade_votes" / "votes.parquet")
    queries = pd.read_parquet(folder / "cascade_votes" / "queries.parquet").set_index("id")
    tables = []
    llama, gpt35 = ("llama-2-13b", "cot1", 0.01), ("gpt-3.5-turbo", "pot1_t=0.8", 1 / 60)
    for name, dataset, cheap in (
        ("votes: gsm8k llama-13b>gpt-4", "gsm8k", [("llama-2-13b", "pot2", 0.01)]),
        ("votes: date llama-13b>gpt-4", "date_understanding", [llama]),
        ("votes: date gpt-3.5>gpt-4", "date_understanding", [gpt35]),
        ("votes: date llama>3.5>gpt-4", "date_understanding", [llama, gpt35]),
    ):
        chain = [*cheap, ("gpt-4", "greedy_cot1", 1.0)]
        parts = [
            votes[(votes.dataset == dataset) & (votes.model == model) & (votes.run == run)]
            .drop_duplicates("id").set_index("id")
            for model, run, _ in chain
        ]  # fmt: skip
        ids = parts[0].index
        for part in parts[1:]:
            ids = ids.intersection(part.index)
        names = [model for model, _, _ in chain]
        right, agree = (
            np.column_stack([part.loc[ids][column].to_numpy(float) for part in parts])
            for column in ("majority_correct", "agreement")
        )
        said = agree
        said[:, -1] = np.nan
        cost = np.tile([price for _, _, price in chain], (len(ids), 1))
        paid = cost.copy()
        paid[:, -1] = np.nan
        texts = queries.loc[ids].question.tolist()
        outcomes = Outcomes(texts, names, right, cost)
        stories = tuple(text.partition("What is the date")[0].strip() for text in texts)
        tables.append(
            Table(name, outcomes, SelfEvaluations(names, said, paid), 8, together=stories)
        )
    return tables


def reflection_table(folder: Path) -> Table:
    """A weak verifier (AUROC 0.60); verifying costs what the recorded self-check cost, in CNY.

    One-shot predictions are the study's own ridge router's, which it fitted on other items.
    """
    rows = pd.read_parquet(folder / "reflection_cascade" / "test800.parquet")
    names = ("qwen3.5-35b", "qwen3.5-397b")
    quality = rows[["weak_correct", "strong_correct"]].to_numpy(float)
    cost = rows[["weak_cost_cny", "strong_cost_cny"]].to_numpy(float)
    used = rows.reflection_strong_used.astype(bool)
    check = float((rows.reflection_cost_cny - cost.sum(axis=1))[used].median())
    blank = np.full(len(rows), np.nan)
    said = np.column_stack([rows.verifier_p.to_numpy(float), blank])
    paid = np.column_stack([np.full(len(rows), check), blank])
    gain = rows.learned_text_only_score.to_numpy(float)
    predicted = np.clip(np.column_stack([0.68 - gain / 2, 0.68 + gain / 2]), 0, 1)
    outcomes = Outcomes(rows.id.tolist(), names, quality, cost, rows.dataset.tolist())
    return Table("reflection: qwen3.5", outcomes, SelfEvaluations(names, said, paid), 24, predicted)


def zeroeval_table(folder: Path) -> Table:
    """All priced models; a confidence is the share of two cheap panel models that agree.

    Verifying an answer costs both calls of the panel, also where one of them was asked before.
    An answer that could not be parsed has confidence 0: that check is free.
    """
    outcomes = load_zeroeval(folder / "zeroeval")
    scores = pd.read_parquet(folder / "zeroeval" / "scores.parquet")
    queries = pd.read_parquet(folder / "zeroeval" / "queries.parquet")
    answers = {
        name: part.set_index("id").loc[queries.id] for name, part in scores.groupby("model")
        if name in outcomes.candidates
    }  # fmt: skip
    given = {
        name: [_bare(text, parsed) for text, parsed in zip(part.answer, part.parsed, strict=True)]
        for name, part in answers.items()
    }
    said, paid = np.zeros(outcomes.quality.shape), np.zeros(outcomes.quality.shape)
    for j, name in enumerate(outcomes.candidates):
        for judge in [other for other in PANEL if other != name][:2]:
            pairs = zip(given[name], given[judge], strict=True)
            same = [a is not None and a == b for a, b in pairs]
            said[:, j] += 0.5 * np.array(same)
            paid[:, j] += answers[judge].cost_usd.to_numpy(float)
    evaluations = SelfEvaluations(outcomes.candidates, said, paid)
    return Table("zeroeval: 24 models", outcomes, evaluations, 2)


def scored_table(folder: Path) -> Table:
    """gpt-4o-mini before gpt-4o: `AnswerScorer` reads the whole answer, for free.

    The third of the questions that taught the scorer is left out of the table.
    """
    names = ("gpt-4o-mini-2024-07-18", "gpt-4o-2024-08-06")
    outcomes = load_zeroeval(folder / "zeroeval").select(names)
    ids = pd.read_parquet(folder / "zeroeval" / "queries.parquet").id
    responses = pd.read_parquet(folder / "zeroeval" / "responses.parquet")
    own = responses[responses.model == names[0]].set_index("id").response.reindex(ids)
    answers = np.array(own.fillna("").tolist(), dtype=object)
    taught, rest = split_indices(len(outcomes), [1 / 3, 2 / 3], seed=11)
    learn, judge = outcomes.take(taught), outcomes.take(rest)
    scorer = AnswerScorer().fit(learn.queries, answers[taught].tolist(), learn.quality[:, 0])
    said = np.full(judge.quality.shape, np.nan)
    said[:, 0] = scorer.score(judge.queries, answers[rest].tolist())
    evaluations = SelfEvaluations(names, said, np.zeros(said.shape))
    return Table("zeroeval: 4o-mini>4o, AnswerScorer", judge, evaluations, 24)


def local_tables() -> list[Table]:
    """Three small local models, as they were recorded: they judge themselves, or their answer's
    own log-probability does."""
    data = LocalModels.load()
    return [
        Table(f"local models: {verifier}", data.outcomes, data.evaluations[verifier], k)
        for verifier, k in (("self_k8", 8), ("answer_logprob", 24))
    ]


def _bare(text: str, parsed: bool) -> str | None:
    """An answer without what does not matter: spaces, case, currency, trailing zeros."""
    if not parsed or text is None:
        return None
    bare = re.sub(r"[\s$,]", "", str(text).lower()).rstrip(".%")
    try:
        return repr(float(bare))
    except ValueError:
        return bare


def pareto(outcomes: Outcomes) -> list[str]:
    """Candidates that no cheaper one equals, from cheap to dear."""
    order = np.argsort(outcomes.mean_cost_usd)
    kept, best = [], -1.0
    for j in order:
        quality = outcomes.quality[:, j].mean()
        if quality > best:
            kept.append(outcomes.candidates[int(j)])
            best = quality
    return kept
