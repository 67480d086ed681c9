"""Parameters that several commands share: a saved router's folder, data, candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

if TYPE_CHECKING:
    from langchain_llm_router.data import Outcomes, SelfEvaluations
    from langchain_llm_router.evaluation import Exam
    from langchain_llm_router.types import Candidate
    from langchain_llm_router.verification import Verifier

__all__ = [
    "Candidates",
    "Data",
    "Folder",
    "Json",
    "Prices",
    "load_exam",
    "load_tables",
    "named_pool",
    "verifiers",
]

Folder = Annotated[Path, "Folder of a saved router, as `fit` writes it."]
Data = Annotated[list[Path], "Journals of `collect`, or one table of outcomes."]
Json = Annotated[bool, "Print the figures as one JSON object on the last line."]
Candidates = Annotated[list[str], "[name=]provider:model[@base-url], from cheap to strong."]
Prices = Annotated[list[str], "name=input,output in USD per million tokens."]


def load_tables(paths: Sequence[Path]) -> tuple[Outcomes, Mapping[str, SelfEvaluations]]:
    """Measured quality and cost, and what verifiers said, by name."""
    from langchain_llm_router.data import Outcomes  # noqa: PLC0415 - imports what only it needs
    from langchain_llm_router.training import load_data  # noqa: PLC0415 - the same

    if len(paths) == 0:
        msg = "Give --data: journals of `collect`, or one table of outcomes."
        raise ValueError(msg)
    data = load_data(*paths)
    if isinstance(data, Outcomes):
        return data, {}
    return data.outcomes, data.evaluations


def load_exam(folder: Path, paths: Sequence[Path], *, seen: bool = False) -> Exam:
    """A saved router, aligned with the rows that it has not seen."""
    from langchain_llm_router.evaluation import Exam  # noqa: PLC0415 - imports what only it needs
    from langchain_llm_router.router.saved_router import SavedRouter  # noqa: PLC0415 - the same

    return Exam.of(SavedRouter.load(folder), *load_tables(paths), seen=seen)


def verifiers(samples: int) -> dict[str, Verifier]:
    """The verifiers that `collect` records, by the names it gives them."""
    from langchain_llm_router.verification import AnswerLogprob, YesNo  # noqa: PLC0415 - the same

    free: dict[str, Verifier] = {"answer_logprob": AnswerLogprob()}
    return {"self": YesNo(samples), **free} if samples > 0 else free


def named_pool(
    texts: Sequence[str], prices: Sequence[str], names: Sequence[str]
) -> list[Candidate]:
    """The candidates that a saved router asks.

    Raises:
        ValueError: If one is not written as it should be, or one of `names` is missing.
    """
    from langchain_llm_router.collect import parse_candidates  # noqa: PLC0415 - the same

    pool = parse_candidates(texts, prices)
    missing = [name for name in names if name not in {c.name for c in pool}]
    if missing:
        msg = (
            f"The router was fitted with {list(names)}, but {missing} are not given: write each as "
            f"--candidate {missing[0]}=provider:model[@base-url]."
        )
        raise ValueError(msg)
    return pool
