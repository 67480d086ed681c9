"""`llm-router start`: from questions to a served router, by the other commands."""

from __future__ import annotations

import inspect
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from langchain_llm_router.apps.cli.collect_command import collect
from langchain_llm_router.apps.cli.fit_command import fit
from langchain_llm_router.apps.cli.page_texts import save_examples
from langchain_llm_router.apps.cli.parameters import CandidatesOption, PricesOption
from langchain_llm_router.apps.cli.serve_command import serve
from langchain_llm_router.apps.cli.start_interview import Answers, Interview, check_answers
from langchain_llm_router.apps.cli.terminal import write_text
from langchain_llm_router.types.errors import import_extra
from langchain_llm_router.types.figures import format_usd

__all__ = ["start"]

_STAGES = ("collect", "fit", "serve")
_MEANINGS = {
    0: "what was saved can be served; its report says what it was compared with.",
    3: "routing does not pay on these questions. What was saved is the best single model.",
    4: "these questions are too few to say. Add more and run the same command again: what is "
    "collected is kept, and only the new ones cost money.",
}
"""What an exit code of `fit` means for what comes next."""


def start(  # noqa: PLR0913 - each option is a parameter
    questions: Annotated[Path | None, "File of questions, as for `collect`."] = None,
    *,
    from_log: Annotated[list[Path], "A log of requests instead, as for `collect`."] = [],  # noqa: B006
    recorded: Annotated[list[str], "model=candidate of a log, as for `collect`."] = [],  # noqa: B006
    candidate: CandidatesOption = [],  # noqa: B006
    price: PricesOption = [],  # noqa: B006
    grader: Annotated[str | None, "As for `collect`; by default, what fits the references."] = None,
    judge: Annotated[str | None, "The model that grades, written like a candidate."] = None,
    samples: Annotated[int, "Number of self-evaluations per answer, may be 0."] = 8,
    target: Annotated[str | None, "Target to meet, as for `fit`, which has a default."] = None,
    budget: Annotated[float | None, "Spend at most this many dollars on collecting."] = None,
    folder: Annotated[Path, "Folder for everything that is written."] = Path("my-router"),
    port: Annotated[int, "Port to serve on."] = 8080,
    until: Annotated[str, "The last step: collect, fit or serve."] = "serve",
    yes: Annotated[bool, "Ask nothing; what is missing is an error."] = False,
) -> None:
    """Go from questions, or a log, to a served router: estimate, collect, fit, serve.

    Asks for what is missing. Every step is one of the other commands, which is printed and then
    run; before money is spent, the estimate is shown. A second run resumes.

    Example: llm-router start

    Example: llm-router start q.jsonl --candidate openai:gpt-4o-mini --candidate openai:gpt-4o --yes
    """
    if until not in _STAGES:
        msg = f"`--until` must be one of {', '.join(_STAGES)}, got {until!r}."
        raise ValueError(msg)
    known = Answers(
        questions, tuple(from_log), tuple(recorded), tuple(candidate), tuple(price),
        grader, judge, target,
    )  # fmt: skip
    if not yes:
        known = Interview(folder).complete(known)
    walk = _Walk(check_answers(known), folder, yes=yes, samples=samples, budget=budget)
    try:
        walk.run(until, port)
    except KeyboardInterrupt:
        sys.stderr.write(f"To go on where this stopped: {walk.line}\n")
        sys.exit(130)


@dataclass(frozen=True)
class _Command:
    """One of the other commands with its arguments: what is printed is what is run."""

    function: Callable[..., None]
    arguments: Mapping[str, Any]

    def __str__(self) -> str:
        words = ["llm-router", self.function.__name__]
        parameters = inspect.signature(self.function).parameters
        for name, value in self.arguments.items():
            flag = f"--{name.replace('_', '-')}"
            if parameters[name].kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
                words.append(str(value))
            elif value is True:
                words.append(flag)
            else:
                values = (
                    value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
                )
                words += [word for one in values for word in (flag, str(one))]
        return shlex.join(words)

    def run(self) -> int:
        """Run it in this process and return its exit code."""
        write_text(f"$ {self}")
        try:
            self.function(**self.arguments)
        except SystemExit as end:
            if not isinstance(end.code, int) or end.code not in _MEANINGS:
                raise
            return end.code
        return 0


def _given(**arguments: Any) -> dict[str, Any]:
    """Return the arguments that were given; the others have the command's own defaults."""
    return {n: v for n, v in arguments.items() if not (v is None or v is False or v == ())}


class _Walk:
    """The steps, each of which says what it costs before, and what it learned after."""

    def __init__(
        self, known: Answers, folder: Path, *, yes: bool, samples: int, budget: float | None
    ) -> None:
        self._known, self._folder, self._yes = known, folder, yes
        self._journal, self._router = folder / "run.jsonl", folder / "router"
        self._asked = _given(
            questions=known.questions, from_log=known.from_log, recorded=known.recorded
        )
        self._models = _given(candidate=known.candidate, price=known.price)
        # What was recorded with so many samples is served with as many.
        default = inspect.signature(collect).parameters["samples"].default
        self._samples = {} if samples == default else {"samples": samples}
        self._grading = _given(grader=known.grader, judge=known.judge, budget=budget)

    @property
    def line(self) -> str:
        """The command that resumes this run without asking for anything."""
        told = {**self._asked, **self._models, **self._samples}
        told |= {**self._grading, **_given(target=self._known.target), "folder": self._folder}
        told |= _given(yes=self._yes)
        return str(_Command(start, told))

    def run(self, until: str, port: int) -> None:
        """Go through the steps up to the last one that is asked for."""
        self._folder.mkdir(parents=True, exist_ok=True)
        self._collect()
        if until == "collect":
            return
        code = self._fit()
        if until == "serve" and self._wants_to_serve():
            self._serve(port)
        elif code:
            sys.exit(code)

    def _collect(self) -> None:
        write_text(
            "\nStep 1 of 3, collect: every model answers every question, and the answers are "
            "graded. First the estimate of what this costs."
        )
        arguments = {**self._asked, **self._models, **self._grading}
        arguments |= {**self._samples, "journal": self._journal, **_given(yes=self._yes)}
        _Command(collect, arguments).run()
        for text in _learned(self._journal):
            write_text(text)

    def _fit(self) -> int:
        write_text(
            "\nStep 2 of 3, fit: compares routers on these answers. It costs nothing: no model "
            "is asked."
        )
        arguments = {"data": [self._journal], "out": self._router}
        arguments |= _given(target=self._known.target)
        if self._router.exists():
            # It was made of the same journal, by an earlier run of this command.
            arguments["force"] = True
        code = _Command(fit, arguments).run()
        write_text(f"So: {_MEANINGS[code]}")
        return code

    def _wants_to_serve(self) -> bool:
        if not (self._router / "manifest.json").exists():
            return False
        if self._yes:
            return True
        confirm = import_extra("rich.prompt", "cli").Confirm
        return bool(confirm.ask("Serve what was saved now?", default=True))

    def _serve(self, port: int) -> None:
        from langchain_llm_router.collect import load_journal  # noqa: PLC0415 - only it

        save_examples(self._router, load_journal(self._journal).outcomes.queries)
        write_text(
            "\nStep 3 of 3, serve: a page to try it on, and OpenAI's interface under /v1, at the "
            "address below. Money is spent only when a question comes. Ctrl-C ends it."
        )
        arguments = {"router": self._router, **self._models, **self._samples, "port": port}
        _Command(serve, arguments).run()


def _learned(journal: Path) -> list[str]:
    """Return what the journal says of each model, in one line each."""
    from langchain_llm_router.collect import load_journal  # noqa: PLC0415 - imports NumPy
    from langchain_llm_router.router.saved_router import mean_costs  # noqa: PLC0415 - the same

    done = load_journal(journal)
    table = done.outcomes
    costs = mean_costs(tuple(table.candidates), table.cost_usd)
    lines = [f"Learned from {len(table):,} questions:"]
    for j, name in enumerate(table.candidates):
        cost = format_usd(1000 * costs[name]) if name in costs else "an unknown amount"
        lines.append(
            f"  {name} alone: quality {100 * table.quality[:, j].mean():.1f} of 100, "
            f"{cost} per 1,000 answers"
        )
    return lines
