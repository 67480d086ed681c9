"""Record the shipped dataset from three real local models with `collect` itself.

usage: python -m tests.support.local_models.record questions OUT.jsonl
       python -m tests.support.local_models.record sums OUT.jsonl
       python -m tests.support.local_models.record pack OUT.json.gz JOURNAL.jsonl [...]
       python -m tests.support.local_models.record run QUESTIONS.jsonl JOURNAL.jsonl [--choice]
           [--only NAME] [--part I/N] [--port P]
"""

import argparse
import ast
import gzip
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from langchain_llm_router.collect import (
    Limits,
    Question,
    TerminalWatcher,
    collect,
    load_journal,
    load_questions,
)
from tests.support.local_models.bench import (
    ANSWER,
    FIRST_PORT,
    LETTER,
    MODELS,
    PREAMBLE,
    USD_PER_MTOK_PER_BILLION,
    VERIFIERS,
    candidates,
)
from tests.support.shared_data import shared_data_folder

LONGEST = 420
TASKS = ("commonsense_qa", "openbook_qa", "arc_challenge", "mmlu")


def make_questions(seed: int = 0) -> list[Question]:
    """Short multiple choice questions with their right letters, in random order."""
    import pandas as pd

    table = pd.read_parquet(shared_data_folder() / "llmrouter" / "scores.parquet")
    table = table[table.task.isin(TASKS)].drop_duplicates("question")
    questions = []
    for row in table.itertuples():
        choices = ast.literal_eval(row.choices)
        texts = choices["text"] if isinstance(choices, dict) else choices
        labels = choices.get("label") if isinstance(choices, dict) else None
        letters = "ABCDE"[: len(texts)]
        truth = str(row.ground_truth).strip()
        if labels is not None and truth in labels:
            truth = letters[labels.index(truth)]
        lines = [f"{letter}. {text}" for letter, text in zip(letters, texts, strict=True)]
        query = "\n".join([row.question.strip(), *lines, "Answer:"])
        if len(query) <= LONGEST and truth in letters:
            questions.append(Question(f"{row.task}-{row.id}", query, truth, row.task))
    order = np.random.default_rng(seed).permutation(len(questions))
    return [questions[i] for i in order]


def make_sums(n: int = 600, seed: int = 0) -> list[Question]:
    """Mental arithmetic with small numbers, each question once, in random order."""
    rng = np.random.default_rng(seed)
    questions: dict[str, Question] = {}
    while len(questions) < n:
        kind = ("plus", "minus", "times")[int(rng.integers(3))]
        a, b = (int(x) for x in rng.integers(2, 13 if kind == "times" else 31, 2))
        if kind == "minus":
            a, b = max(a, b), min(a, b)
        value = {"plus": a + b, "minus": a - b, "times": a * b}[kind]
        text = f"What is {a} {dict(plus='+', minus='-', times='*')[kind]} {b}?"
        questions[text] = Question(f"sums-{kind}-{a}-{b}", text, str(value), "sums")
    return list(questions.values())


def pack(out: Path, journals: Sequence[Path]) -> None:
    """Write the journals' complete rows as the table that `LocalModels` reads."""
    done = load_journal(*journals)
    names = list(done.outcomes.candidates)
    record = {q.id: q for journal in journals for q in _questions(journal)}

    def rounded(values: np.ndarray, digits: int) -> list:
        return [None if np.isnan(value) else float(f"{value:.{digits}g}") for value in values]

    models = {}
    for name in MODELS:
        j = names.index(name)
        verdicts = done.evaluations["self_k8"].verdicts[:, j]
        model = {
            "usd_per_mtok": MODELS[name] * USD_PER_MTOK_PER_BILLION,
            "answers": [row[name] for row in done.answers],
            "quality": done.outcomes.quality[:, j].astype(int).tolist(),
            "cost_usd": rounded(done.outcomes.cost_usd[:, j], 6),
            "input_tokens": done.input_tokens[:, j].astype(int).tolist(),
            "output_tokens": done.output_tokens[:, j].astype(int).tolist(),
            "latency_s": rounded(done.latency_s[:, j], 4),
            "mean_logprob": rounded(np.log(done.evaluations["answer_logprob"].confidence[:, j]), 5),
            "token_probability": rounded(done.evaluations["token_probability"].confidence[:, j], 5),
            "self_k8": [[None if np.isnan(v) else int(v) for v in row] for row in verdicts],
        }
        for verifier in VERIFIERS:
            costs = done.evaluations[verifier].cost_usd[:, j]
            model[f"{verifier}_cost_usd"] = rounded(costs, 6)
        models[name] = model
    table = {
        "ids": list(done.ids),
        "queries": list(done.outcomes.queries),
        "groups": list(done.outcomes.groups),
        "references": [record[id].reference for id in done.ids],
        "models": models,
    }
    text = json.dumps(table, ensure_ascii=False, separators=(",", ":"))
    # No time stamp inside: the same rows give the same bytes.
    out.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
    print(len(done.ids), "rows,", out.stat().st_size, "bytes", file=sys.stderr)


def _questions(journal: Path) -> list[Question]:
    lines = journal.read_text(encoding="utf-8").split("\n")[:-1]
    rows = map(json.loads, lines)
    return [
        Question(r["id"], r["query"], r["reference"], r["group"])
        for r in rows
        if r["kind"] == "question"
    ]


_MAKERS = {"questions": make_questions, "sums": make_sums}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    steps = parser.add_subparsers(dest="step", required=True)
    for name in _MAKERS:
        steps.add_parser(name).add_argument("out", type=Path)
    packing = steps.add_parser("pack")
    packing.add_argument("out", type=Path)
    packing.add_argument("journals", type=Path, nargs="+")
    run = steps.add_parser("run")
    run.add_argument("questions", type=Path)
    run.add_argument("journal", type=Path)
    run.add_argument("--choice", action="store_true", help="multiple choice: letters only")
    run.add_argument("--only", default=None, help="this candidate only")
    run.add_argument("--part", default="0/1", help="I/N: every Nth question, from the Ith on")
    run.add_argument("--port", type=int, default=FIRST_PORT, help="of the first of the servers")
    given = parser.parse_args()
    if given.step in _MAKERS:
        rows = _MAKERS[given.step]()
        given.out.write_text(
            "".join(
                json.dumps(
                    {"id": q.id, "query": q.query, "reference": q.reference, "group": q.group}
                )
                + "\n"
                for q in rows
            )
        )
        print(len(rows), file=sys.stderr)
        return
    if given.step == "pack":
        pack(given.out, given.journals)
        return
    grammar = LETTER if given.choice else ANSWER
    part, parts = map(int, given.part.split("/"))
    collected = collect(
        load_questions(given.questions)[part::parts],
        [c for c in candidates(given.port, grammar=grammar) if given.only in (None, c.name)],
        journal=given.journal,
        grader="choice" if given.choice else "exact",
        verifiers=VERIFIERS,
        verify_last=True,
        preamble=PREAMBLE,
        # One at a time: a server's prompt cache then still holds the question it verifies.
        limits=Limits(concurrency=1),
        watcher=TerminalWatcher(yes=True, without_prices=True),
    )
    print(collected.outcomes.candidates, collected.outcomes.quality.mean(axis=0))


if __name__ == "__main__":
    main()
