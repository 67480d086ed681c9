"""Loaders of public routing benchmarks from local Parquet, CSV or JSONL files.

Each loader documents the columns that it reads. Candidates are ordered from cheap to expensive,
the weak one first. Rows that are in RouteLLM's training data (`contaminated`) are dropped, as in
RouteLLM.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from langchain_llm_router.data import Battles, Outcomes
from langchain_llm_router.data.row_files import check_suffix
from langchain_llm_router.types.errors import import_extra

__all__ = [
    "load_alpaca_eval",
    "load_alpaca_pair",
    "load_gsm8k",
    "load_mmlu",
    "load_mt_bench",
    "load_routerbench",
    "load_zeroeval",
    "without_overlap",
]

_SUFFIXES = (".parquet", ".csv", ".jsonl")
_ROUTELLM_PAIR = ("mixtral-8x7b-instruct-v0.1", "gpt-4-1106-preview")

_Table = dict[str, list[Any]]


def load_mmlu(path: str | Path, *, keep_contaminated: bool = False) -> Outcomes:
    """Load RouteLLM's MMLU: Mixtral 8x7B and GPT-4 on four-choice questions of 57 subjects.

    Args:
        path: A file with `prompt`, `subject`, `weak_correct`, `strong_correct`, `contaminated`.
        keep_contaminated: Keep prompts that are in RouteLLM's training data.

    Returns:
        Quality 0 or 1, costs unknown, the subject as group.
    """
    names = ("prompt", "subject", "weak_correct", "strong_correct", "contaminated")
    table = _clean(_read(Path(path), names), keep_contaminated=keep_contaminated)
    return _pair(table, "prompt", ("weak_correct", "strong_correct"), "subject")


def load_gsm8k(
    path: str | Path,
    *,
    labels: Literal["published", "regraded"] = "published",
    keep_contaminated: bool = False,
) -> Outcomes:
    """Load RouteLLM's GSM8K: Mixtral 8x7B and GPT-4 on word problems.

    The published grader marks every GPT-4 answer that ends in two decimals (`$57.00`) as wrong,
    and a router can fit this error, so report results for both kinds of labels.

    Args:
        path: A file with `prompt`, `contaminated`, and the columns of the labels:
            `weak_correct`, `strong_correct`, or `weak_lastnum_correct`, `strong_lastnum_correct`.
        labels: `"published"` for RouteLLM's labels, or `"regraded"` for labels by the last number
            of the answer.
        keep_contaminated: Keep prompts that are in RouteLLM's training data.
    """
    middle = {"published": "", "regraded": "lastnum_"}
    if labels not in middle:
        msg = f"`labels` must be 'published' or 'regraded', got {labels!r}."
        raise ValueError(msg)
    columns = (f"weak_{middle[labels]}correct", f"strong_{middle[labels]}correct")
    table = _read(Path(path), ("prompt", *columns, "contaminated"))
    return _pair(_clean(table, keep_contaminated=keep_contaminated), "prompt", columns, None)


def load_mt_bench(path: str | Path, *, keep_contaminated: bool = False) -> Outcomes:
    """Load RouteLLM's MT-Bench, with one row per turn and the text of the first turn as query.

    Args:
        path: A file with `first_turn`, `category`, `weak_score`, `strong_score` (1 to 10, by a
            GPT-4 judge), `contaminated`.
        keep_contaminated: Keep questions that are in RouteLLM's training data.

    Returns:
        Quality as a tenth of the judge's score, costs unknown, the category as group. Both turns
        of a question have the same query, so resample and split them together.
    """
    names = ("first_turn", "category", "weak_score", "strong_score", "contaminated")
    table = _clean(_read(Path(path), names), keep_contaminated=keep_contaminated)
    for name in ("weak_score", "strong_score"):
        table[name] = [score / 10 for score in table[name]]
    return _pair(table, "first_turn", ("weak_score", "strong_score"), "category")


def load_routerbench(
    folder: str | Path, *, candidates: Sequence[str] | None = None, text: str = "question"
) -> Outcomes:
    """Load RouterBench: 11 models with recorded costs on ARC, MBPP and Winogrande.

    Args:
        folder: Folder with `queries` (`id`, `dataset`, `question`, `prompt`) and `scores` (`id`,
            `model`, `score`, `cost_usd`), each as .parquet, .csv or .jsonl.
        candidates: Models to keep, in order. If None, all models with every score and cost, from
            cheap to expensive.
        text: Column of the queries; `prompt` is the input of the models, with solved examples.
    """
    queries = _read_named(Path(folder), "queries", ("id", "dataset", text))
    scores = _read_named(Path(folder), "scores", ("id", "model", "score", "cost_usd"))
    return _pivot(queries, text, scores, "score", candidates)


def load_zeroeval(folder: str | Path, *, candidates: Sequence[str] | None = None) -> Outcomes:
    """Load ZeroEval: many models on GSM8K, MATH level 5 and CRUX, with costs by list price.

    Args:
        folder: Folder with `queries` (`id`, `dataset`, `question`) and `scores` (`id`, `model`,
            `correct`, `cost_usd`), each as .parquet, .csv or .jsonl.
        candidates: Models to keep, in order. If None, all models with every label and cost, except
            o1 models, whose recorded costs lack the hidden reasoning.
    """
    queries = _read_named(Path(folder), "queries", ("id", "dataset", "question"))
    scores = _read_named(Path(folder), "scores", ("id", "model", "correct", "cost_usd"))
    if candidates is None:
        keep = [i for i, name in enumerate(scores["model"]) if not str(name).startswith("o1")]
        scores = {name: [column[i] for i in keep] for name, column in scores.items()}
    return _pivot(queries, "question", scores, "correct", candidates)


def load_alpaca_eval(folder: str | Path, *, annotators: Sequence[str] | None = None) -> Battles:
    """Load AlpacaEval: every judged comparison of a model with its anchor as a battle.

    Args:
        folder: Folder with `instructions` (`instruction_id`, `instruction`, `dataset`) and
            `preferences` (`instruction_id`, `model_a`, `model_b`, `annotator`, `p_b`).
        annotators: Judges to keep. If None, all.
    """
    texts, _, rows = _alpaca(Path(folder), annotators)
    return Battles(
        [texts[row["instruction_id"]] for row in rows],
        [str(row["model_a"]) for row in rows],
        [str(row["model_b"]) for row in rows],
        [1 - float(row["p_b"]) for row in rows],
    )


def load_alpaca_pair(folder: str | Path, model: str, anchor: str, annotator: str) -> Outcomes:
    """Load the comparisons of one model with its anchor by one judge, as a table of outcomes.

    Args:
        folder: As in `load_alpaca_eval`.
        model: The weak candidate (`model_b` of the file).
        anchor: The strong candidate (`model_a` of the file).
        annotator: The judge.

    Returns:
        Quality p and 1 − p, where p is the judge's preference for the weak candidate; the source
        of the instruction as group.
    """
    texts, groups, rows = _alpaca(Path(folder), [annotator])
    rows = [row for row in rows if (row["model_a"], row["model_b"]) == (anchor, model)]
    if len(rows) == 0:
        msg = f"{str(folder)!r} has no comparison of {model!r} with {anchor!r} by {annotator!r}."
        raise ValueError(msg)
    weak = np.array([float(row["p_b"]) for row in rows])
    return Outcomes(
        [texts[row["instruction_id"]] for row in rows],
        (model, anchor),
        np.column_stack([weak, 1 - weak]),
        groups=[groups[row["instruction_id"]] for row in rows],
    )


def without_overlap(outcomes: Outcomes, others: Sequence[str]) -> Outcomes:
    """Drop the rows whose query is also in `others`, e.g. in a test set.

    Case, spaces and punctuation are ignored, because data sets copy questions with such changes.

    Args:
        outcomes: The table to filter.
        others: Queries to exclude.
    """
    taken = {_bare(query) for query in others}
    return outcomes.take(
        [i for i, query in enumerate(outcomes.queries) if _bare(query) not in taken]
    )


def _bare(query: str) -> str:
    return " ".join(re.findall(r"\w+", query.lower()))


def _pair(table: _Table, text: str, labels: tuple[str, str], group: str | None) -> Outcomes:
    quality = np.column_stack([np.asarray(table[name], dtype=np.float64) for name in labels])
    groups = None if group is None else [str(value) for value in table[group]]
    return Outcomes(table[text], _ROUTELLM_PAIR, quality, groups=groups)


def _clean(table: _Table, *, keep_contaminated: bool) -> _Table:
    if keep_contaminated:
        return table
    keep = [i for i, found in enumerate(table["contaminated"]) if not found]
    return {name: [column[i] for i in keep] for name, column in table.items()}


def _pivot(
    queries: _Table, text: str, scores: _Table, label: str, candidates: Sequence[str] | None
) -> Outcomes:
    """Pivot one score per row to (queries, candidates).

    If `candidates` is None, only models with every score and cost are kept.
    """
    models = list(dict.fromkeys(map(str, scores["model"]))) if candidates is None else candidates
    row_of = {key: i for i, key in enumerate(queries["id"])}
    column_of = {name: j for j, name in enumerate(models)}
    quality = np.full((len(row_of), len(models)), np.nan)
    cost = np.full_like(quality, np.nan)
    for key, model, score, spent in zip(
        scores["id"], map(str, scores["model"]), scores[label], scores["cost_usd"], strict=True
    ):
        if key in row_of and model in column_of:
            at = row_of[key], column_of[model]
            quality[at] = float(score)
            cost[at] = np.nan if spent is None else float(spent)
    if candidates is None:
        keep = ~np.isnan(quality).any(axis=0) & ~np.isnan(cost).any(axis=0)
        models = [name for name, kept in zip(models, keep, strict=True) if kept]
        quality, cost = quality[:, keep], cost[:, keep]
    order = np.arange(len(models))
    if candidates is None:
        order = np.argsort(cost.mean(axis=0), kind="stable")
    return Outcomes(
        queries[text],
        [models[int(j)] for j in order],
        quality[:, order],
        cost[:, order],
        [str(name) for name in queries["dataset"]],
    )


def _alpaca(
    folder: Path, annotators: Sequence[str] | None
) -> tuple[Mapping[int, str], Mapping[int, str], list[dict[str, Any]]]:
    known = _read_named(folder, "instructions", ("instruction_id", "instruction", "dataset"))
    names = ("instruction_id", "model_a", "model_b", "annotator", "p_b")
    table = _read_named(folder, "preferences", names)
    rows = [dict(zip(names, row, strict=True)) for row in zip(*table.values(), strict=True)]
    if annotators is not None:
        rows = [row for row in rows if row["annotator"] in annotators]
    texts = dict(zip(known["instruction_id"], known["instruction"], strict=True))
    groups = {
        key: str(name) for key, name in zip(known["instruction_id"], known["dataset"], strict=True)
    }
    return texts, groups, rows


def _read_named(folder: Path, stem: str, columns: Sequence[str]) -> _Table:
    for suffix in _SUFFIXES:
        path = folder / f"{stem}{suffix}"
        if path.is_file():
            return _read(path, columns)
    msg = f"{str(folder)!r} must contain {stem}.parquet, {stem}.csv or {stem}.jsonl."
    raise FileNotFoundError(msg)


def _read(path: Path, columns: Sequence[str]) -> _Table:
    """Read the named columns of a file as lists; pyarrow infers their types, even in CSV."""
    check_suffix(path, _SUFFIXES)
    if path.suffix == ".parquet":
        table = import_extra("pyarrow.parquet", "data").read_table(path)
    elif path.suffix == ".csv":
        table = import_extra("pyarrow.csv", "data").read_csv(path)
    else:
        table = import_extra("pyarrow.json", "data").read_json(path)
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        msg = f"{path.name!r} lacks the columns {missing}: it has {table.column_names}."
        raise ValueError(msg)
    return {name: table.column(name).to_pylist() for name in dict.fromkeys(columns)}
