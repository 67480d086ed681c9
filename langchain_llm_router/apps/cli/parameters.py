"""Parameters that several commands share, and the loading of their values."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from math import inf, isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from langchain_llm_router.apps.cli.terminal import write_text

if TYPE_CHECKING:
    from langchain_llm_router.collect import Collected
    from langchain_llm_router.data import Outcomes, SelfEvaluations
    from langchain_llm_router.evaluation import Exam
    from langchain_llm_router.types import Candidate
    from langchain_llm_router.verification import Verifier

__all__ = [
    "CandidatesOption",
    "DataOption",
    "JsonOption",
    "PricesOption",
    "RouterArgument",
    "build_verifiers",
    "check_flags",
    "check_output_folder",
    "load_data_option",
    "load_exam",
    "load_tables",
    "parse_pool",
]

RouterArgument = Annotated[Path, "Folder of a saved router, as `fit` writes it."]
DataOption = Annotated[list[Path], "Journals of `collect`, or tables of outcomes; several add up."]
JsonOption = Annotated[bool, "Print the figures as one JSON object on the last line."]
CandidatesOption = Annotated[
    list[str],
    "[name=]provider:model[?reasoning_effort=low,high][@base-url], from cheap to strong.",
]
PricesOption = Annotated[list[str], "name=input,output in USD per million tokens."]


_RANGES: dict[str, tuple[float, float]] = {
    "attempts": (1, 1000),
    "budget": (0, inf),
    "concurrency": (1, 10_000),
    "judge_share": (0, 1),
    "port": (0, 65_535),
    "quality_per_usd": (0, inf),
    "samples": (0, 1000),
    "seed": (0, 2**32 - 1),
    "shards": (1, 10_000),
    "workers": (1, 1000),
}
"""Allowed range of the numbers on the command line, by the name of the parameter."""


def check_flags(values: Mapping[str, object]) -> None:
    """Check the numbers of a command line.

    Raises:
        ValueError: If one is not finite or out of its range.
    """
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            continue
        low, high = _RANGES.get(name, (-inf, inf))
        if not isfinite(value) or not low <= value <= high:
            allowed = "a finite number"
            if name in _RANGES:
                allowed = f">= {low:g}" if high == inf else f"in [{low:g}, {high:.10g}]"
            flag = f"--{name.replace('_', '-')}"
            msg = f"`{flag}` must be {allowed}, got {value!r}."
            raise ValueError(msg)


def check_output_folder(out: Path, *, force: bool) -> None:
    """Refuse a folder for a router that holds something, or where nothing can be written.

    Raises:
        FileExistsError: If the folder is not empty and `force` is not set.
        NotADirectoryError: If a file is in its place.
        PermissionError: If nothing can be written there.
    """
    if not force and out.is_dir() and any(out.iterdir()):
        msg = (
            f"{str(out)!r} exists already: choose another `--out`, or overwrite it with `--force`."
        )
        raise FileExistsError(msg)
    place = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not place.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(place))
    if not os.access(place, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place))


def load_data_option(
    paths: Sequence[Path],
) -> tuple[Outcomes | Collected, str, dict[str, Any]]:
    """Load the tables of `--data`, and what was left out or averaged.

    Returns:
        The tables, what was left out in words, empty if nothing was, and the counts for `--json`.

    Raises:
        ValueError: If there is no path, or a file cannot be read.
    """
    from langchain_llm_router.collect.tables import (  # noqa: PLC0415 - imports what only it needs
        repeated_sentence,
    )
    from langchain_llm_router.data import Outcomes  # noqa: PLC0415 - the same
    from langchain_llm_router.training.data_files import read_data  # noqa: PLC0415 - the same

    if len(paths) == 0:
        msg = "`--data` is missing: pass journals of `collect`, or tables of outcomes."
        raise ValueError(msg)
    data, repeated = read_data(*paths)
    if isinstance(data, Outcomes):
        return data, repeated_sentence(repeated), {"left_out": {}, "repeated": repeated}
    counts = {"left_out": dict(data.left_out), "repeated": repeated}
    return data, data.left_out_sentence, counts


def load_tables(paths: Sequence[Path]) -> tuple[Outcomes, Mapping[str, SelfEvaluations]]:
    """Load the outcomes, and the evaluations by verifier name.

    What is left out of journals is printed.
    """
    data, left_out, _ = load_data_option(paths)
    if left_out:
        write_text(left_out)
    return _tables(data)


def _tables(data: Outcomes | Collected) -> tuple[Outcomes, Mapping[str, SelfEvaluations]]:
    from langchain_llm_router.data import Outcomes  # noqa: PLC0415 - imports what only it needs

    return (data, {}) if isinstance(data, Outcomes) else (data.outcomes, data.evaluations)


def load_exam(
    folder: Path, paths: Sequence[Path], *, seen: bool = False
) -> tuple[Exam, str, dict[str, Any]]:
    """Load a saved router with the rows that it was not fitted on; with `seen`, all rows.

    Returns:
        The exam, and what was left out of the data, as `load_data_option` says it.
    """
    from langchain_llm_router.evaluation import Exam  # noqa: PLC0415 - imports what only it needs
    from langchain_llm_router.router.saved_router import SavedRouter  # noqa: PLC0415 - the same

    data, notes, counts = load_data_option(paths)
    runs = getattr(data, "runs", None)
    exam = Exam.of(SavedRouter.load(folder), *_tables(data), seen=seen, runs=runs)
    return exam, notes, counts


def build_verifiers(samples: int) -> dict[str, Verifier]:
    """Make the verifiers that `collect` records, under the same names."""
    from langchain_llm_router.verification import (  # noqa: PLC0415 - the same
        AnswerGroups,
        AnswerLogprob,
        SelfReported,
        YesNo,
    )

    named: dict[str, Verifier] = {
        "answer_logprob": AnswerLogprob(),
        "self_reported": SelfReported(),
        "answer_groups": AnswerGroups(),
    }
    return {"self": YesNo(samples), **named} if samples > 0 else named


def parse_pool(
    texts: Sequence[str], prices: Sequence[str], names: Sequence[str]
) -> list[Candidate]:
    """Parse the candidates of a saved router.

    Raises:
        ValueError: If a text has another form, or one of `names` is missing.
    """
    from langchain_llm_router.collect import parse_candidates  # noqa: PLC0415 - the same

    pool = parse_candidates(texts, prices)
    missing = [name for name in names if name not in {c.name for c in pool}]
    if missing:
        msg = (
            f"`--candidate` must include {missing} because the router was fitted with "
            f"{list(names)}: write --candidate {missing[0]}=provider:model[@base-url]."
        )
        raise ValueError(msg)
    return pool
