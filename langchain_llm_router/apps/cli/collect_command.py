"""`llm-router collect`: collects the data to fit a router on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from langchain_llm_router.apps.cli.parameters import CandidatesOption, JsonOption, PricesOption
from langchain_llm_router.apps.cli.terminal import write_json, write_text

if TYPE_CHECKING:
    from langchain_llm_router.collect import Collected, RequestLog
    from langchain_llm_router.types import Candidate

__all__ = ["collect"]


def collect(  # noqa: PLR0913 - each option is a parameter
    questions: Annotated[
        Path | None,
        "JSONL, CSV or Parquet: `query`, optional `id`, `reference`; or langsmith:NAME.",
    ] = None,
    *,
    candidate: CandidatesOption = [],  # noqa: B006
    journal: Annotated[Path, "File for all results; a later run resumes it."] = Path("run.jsonl"),
    price: PricesOption = [],  # noqa: B006
    from_log: Annotated[
        list[Path], "A log of requests in place of questions, repeatable (see below)."
    ] = [],  # noqa: B006
    recorded: Annotated[
        list[str], "model=candidate: the candidate that a model of the log is, if not by name."
    ] = [],  # noqa: B006
    grader: Annotated[
        str | None,
        "exact, number, choice, judge or pairwise; by default exact, with --from-log pairwise.",
    ] = None,
    judge: Annotated[str | None, "The model that grades, written like a candidate."] = None,
    samples: Annotated[int, "Number of self-evaluations per answer, may be 0."] = 8,
    verify_last: Annotated[bool, "Have the last candidate evaluate its answers too."] = False,
    concurrency: Annotated[int, "Maximum number of concurrent calls to one model."] = 8,
    attempts: Annotated[int, "Maximum attempts on rate limits and lost connections."] = 6,
    budget: Annotated[float | None, "Stop before spending more than this many dollars."] = None,
    logprobs: Annotated[bool, "Record the answers' log-probabilities."] = False,
    self_reported: Annotated[
        bool, "Ask for a confidence in the same call, and record it; this changes the prompt."
    ] = False,
    ray: Annotated[bool, "Use a Ray cluster; if there is none, start a local one."] = False,
    shards: Annotated[int, "With --ray: processes that share --concurrency and --budget."] = 4,
    yes: Annotated[bool, "Start without asking for confirmation."] = False,
    without_prices: Annotated[bool, "Start although the price of a candidate is unknown."] = False,
    json: JsonOption = False,
) -> None:
    """Collect data to fit a router on: ask every candidate, grade and self-evaluate its answers.

    After 20 questions the run stops if no verdict or grade of a candidate can be read; in a
    terminal it asks. The same command goes on from there.

    --from-log reads JSONL: exported runs of LangSmith, requests and responses of OpenAI's interface
    (pairs, batch files, stored completions), payloads of LiteLLM, or the log of `serve --log`. The
    recorded answer is its candidate's, only the others are asked, and a judge compares them.

    Example: llm-router collect q.jsonl --candidate openai:gpt-4o-mini --candidate openai:gpt-4o
    --journal run.jsonl

    Example: llm-router collect --from-log requests.jsonl --candidate small=openai:gpt-4o-mini
    --candidate large=openai:gpt-4o --recorded gpt-4o-2024-08-06=large --judge openai:o3
    """
    from langchain_llm_router import collect as room  # noqa: PLC0415 - imports what only it needs
    from langchain_llm_router.verification import SelfReported, YesNo  # noqa: PLC0415 - the same

    grader = grader or ("pairwise" if from_log else "exact")
    if (questions is None) == (len(from_log) == 0):
        msg = "`collect` needs either a file of questions or `--from-log`, and not both."
        raise ValueError(msg)
    if judge is not None and grader not in ("judge", "pairwise"):
        msg = f"`--judge` needs `--grader judge` or `--grader pairwise`, got `--grader {grader}`."
        raise ValueError(msg)

    asks: room.Questions = questions or ()
    answers: Sequence[Mapping[str, Any]] = ()
    if from_log:
        pool = room.parse_candidates(candidate, price)
        log = _read_log(from_log, pool, recorded, references=grader not in ("judge", "pairwise"))
        asks, answers = log.questions, log.answers

    def setup() -> room.Setup:
        return {
            "candidates": room.parse_candidates(candidate, price, logprobs=logprobs),
            "recorded": answers,
            "grader": room.grader_by_name(grader, judge),
            "verifiers": {
                **({"self": YesNo(samples)} if samples > 0 else {}),
                **({"self_reported": SelfReported()} if self_reported else {}),
            },
            "verify_last": verify_last,
        }

    limits = room.Limits(concurrency, attempts, budget)
    with room.TerminalWatcher(yes=yes, without_prices=without_prices) as watcher:
        if ray:
            done = room.collect_on_ray(
                asks, setup, journal=journal, n_shards=shards, limits=limits, watcher=watcher
            )
        else:
            done = room.collect(asks, **setup(), journal=journal, limits=limits, watcher=watcher)
    _tell(done)
    spending = watcher.spending
    assert spending is not None, "the run has ended"
    if json:
        write_json(
            {
                "journal": str(journal),
                "n_rows": len(done.ids),
                "left_out": dict(done.incomplete),
                "verdicts_readable": list(done.n_verdicts),
                "candidates": _figures(done),
                "expected_usd": spending.expected_usd,
                "spent_usd": spending.cost_usd,
                "spent_known_usd": spending.known_usd,
            }
        )


def _read_log(
    paths: Sequence[Path], pool: Sequence[Candidate], recorded: Sequence[str], *, references: bool
) -> RequestLog:
    """Read request logs, and print what they give."""
    from langchain_llm_router.collect import read_request_log  # noqa: PLC0415 - as above

    log = read_request_log(
        *paths, candidates=pool, recorded=_parse_recorded(recorded), references=references
    )
    write_text(log.sentence)
    return log


def _tell(done: Collected) -> None:
    """Print the qualities, what is left out, and last how many verdicts could be read."""
    for name, figures in _figures(done).items():
        write_text(f"{name}: quality {figures['quality']:.3f}")
    if done.incomplete:
        question, reason = next(iter(done.incomplete.items()))
        write_text(f"{len(done.incomplete)} left out, e.g. {question!r}: {reason}")
    n_read, n_verdicts = done.n_verdicts
    if n_verdicts > 0:
        write_text(f"verdicts readable: {n_read:,} of {n_verdicts:,}")


def _parse_recorded(texts: Sequence[str]) -> dict[str, str]:
    """Parse which candidate each recorded model is.

    Raises:
        ValueError: If a text has another form.
    """
    pairs = [text.rpartition("=")[::2] for text in texts]
    for text, (model, name) in zip(texts, pairs, strict=True):
        if not model or not name:
            msg = f"`--recorded` must be written as model=candidate, got {text!r}."
            raise ValueError(msg)
    return dict(pairs)


def _figures(done: Collected) -> dict[str, dict[str, float | None]]:
    """Return the mean quality and cost of every candidate."""
    table = done.outcomes
    costs = table.mean_cost_usd
    return {
        name: {
            "quality": float(table.quality[:, j].mean()),
            "cost_usd": None if costs is None or isnan(costs[j]) else float(costs[j]),
        }
        for j, name in enumerate(table.candidates)
    }
