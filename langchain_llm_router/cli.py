"""`llm-router`: the command line, thin over the rooms below it (extra `cli`)."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any

from langchain_llm_router.errors import LlmRouterError, import_extra

__all__ = ["build_app", "main"]


def main() -> None:
    """Run the command line; a user's mistake ends in one line, not in a traceback."""
    try:
        build_app()()
    except (LlmRouterError, ValueError, OSError) as error:
        sys.stderr.write(f"llm-router: {error}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.stderr.write("llm-router: interrupted\n")
        sys.exit(130)


def build_app() -> Any:
    """The typer application; each command is a function of this module."""
    import_extra("rich", "cli")
    typer = import_extra("typer", "cli")
    app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
    app.callback()(_about)
    for command in (demo, collect, fit, serve):
        app.command()(command)
    return app


def _about() -> None:
    """Choose the right language model for every query, and prove what that saved."""


def demo(
    out: Annotated[Path, "Folder for the picture."] = Path("llm-router-demo"),
    seed: Annotated[int, "Another seed, another split."] = 0,
    *,
    json: Annotated[bool, "Print the figures as one JSON object on the last line."] = False,
    local: Annotated[bool, "Self-evaluate live on a small local model instead."] = False,
) -> None:
    """Route 1,420 unseen real questions and show what that saved (no key, no network).

    Example: llm-router demo --out pictures
    """
    if local:
        from langchain_llm_router.demo.local import show_local  # noqa: PLC0415 - only it needs it

        show_local()
        return
    from langchain_llm_router.demo import report  # noqa: PLC0415 - imports what only it needs

    report.show(out, seed=seed, as_json=json)


def collect(  # noqa: PLR0913 - a command has as many options as it has
    questions: Annotated[Path, "JSONL, CSV or Parquet with `query`, if any `id`, `reference`."],
    *,
    candidate: Annotated[list[str], "[name=]provider:model[@base-url], from cheap to strong."] = [],  # noqa: B006
    journal: Annotated[Path, "Every answer is kept here; a later run goes on."] = Path("run.jsonl"),
    price: Annotated[list[str], "name=input,output in USD per million tokens."] = [],  # noqa: B006
    grader: Annotated[str, "exact, number, choice, judge or pairwise."] = "exact",
    judge: Annotated[str | None, "The model that grades, written like a candidate."] = None,
    samples: Annotated[int, "Self-evaluations per answer; 0: none."] = 8,
    concurrency: Annotated[int, "Calls in flight to one model."] = 8,
    budget: Annotated[float | None, "Stop before this many dollars are passed."] = None,
    logprobs: Annotated[bool, "Record the answers' log-probabilities."] = False,
    yes: Annotated[bool, "Begin without asking."] = False,
) -> None:
    """Ask every candidate every question, grade and self-evaluate: the data to fit a router on.

    Example: llm-router collect q.jsonl --candidate openai:gpt-4o-mini --candidate openai:gpt-4o
    --journal run.jsonl
    """
    from langchain_llm_router import collect as room  # noqa: PLC0415 - imports what only it needs
    from langchain_llm_router.verification import YesNo  # noqa: PLC0415 - the same

    with room.TerminalWatcher(yes=yes) as watcher:
        done = room.collect(
            questions,
            room.parse_candidates(candidate, price, logprobs=logprobs),
            journal=journal,
            grader=room.grader_by_name(grader, judge),
            verifiers={"self": YesNo(samples)} if samples > 0 else None,
            limits=room.Limits(concurrency=concurrency, budget_usd=budget),
            watcher=watcher,
        )
    means = zip(done.outcomes.candidates, done.outcomes.quality.mean(axis=0), strict=True)
    sys.stdout.write("".join(f"{name}: quality {mean:.3f}\n" for name, mean in means))
    if done.incomplete:
        question, lack = next(iter(done.incomplete.items()))
        sys.stdout.write(f"{len(done.incomplete)} left out, e.g. {question!r}: {lack}\n")


def fit(
    *,
    data: Annotated[list[Path], "Journals of `collect`, or one table of outcomes."] = [],  # noqa: B006
    out: Annotated[Path, "Folder for the router and its report."] = Path("router"),
    quality_per_usd: Annotated[float | None, "λ; none: where mixing at random gains 0."] = None,
    seed: Annotated[int, "Another seed, another split."] = 0,
) -> None:
    """Let everything that applies compete on held-out rows; write the winner and a report.

    Example: llm-router fit --data run.jsonl --out router
    """
    from langchain_llm_router.fitting import fit_router, load_data  # noqa: PLC0415 - the same
    from langchain_llm_router.fitting.report import verdict, write_report  # noqa: PLC0415

    fitted = fit_router(load_data(*data), lambda_=quality_per_usd, seed=seed)
    fitted.save(out)
    report = write_report(fitted, out)
    sys.stdout.write(f"{verdict(fitted)}\n{report}\n")


def serve(
    host: Annotated[str, "Address to listen on."] = "127.0.0.1",
    port: Annotated[int, "Port to listen on."] = 8080,
    *,
    cascade: Annotated[bool, "Serve the demo's cascade instead of its one-shot route."] = False,
) -> None:
    """Serve the demo's router over its recorded answers: OpenAI's HTTP interface and a live page.

    Keys are read from LLM_ROUTER_API_KEYS (comma-separated); without it everybody may ask.

    Example: llm-router serve --cascade --port 8080, then open http://127.0.0.1:8080
    """
    uvicorn = import_extra("uvicorn", "serve")
    import_extra("fastapi", "serve")
    from langchain_llm_router.demo import Demo  # noqa: PLC0415 - imports what only it needs
    from langchain_llm_router.serving import create_app  # noqa: PLC0415 - the same

    keys = [key for key in os.environ.get("LLM_ROUTER_API_KEYS", "").split(",") if key]
    demo_ = Demo()
    router = demo_.cascade_router() if cascade else demo_.fit_route().router
    uvicorn.run(create_app(router, api_keys=keys), host=host, port=port, log_level="info")
