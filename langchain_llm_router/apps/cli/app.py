"""The command-line application: its commands and its exit codes."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from importlib.metadata import version
from io import TextIOWrapper
from typing import Annotated, Any, get_args, get_type_hints

from langchain_llm_router.apps.cli.calibrate_command import calibrate
from langchain_llm_router.apps.cli.collect_command import collect
from langchain_llm_router.apps.cli.demo_command import demo
from langchain_llm_router.apps.cli.evaluate_command import evaluate
from langchain_llm_router.apps.cli.explain_command import explain
from langchain_llm_router.apps.cli.feedback_command import feedback
from langchain_llm_router.apps.cli.fit_command import fit
from langchain_llm_router.apps.cli.parameters import check_flags
from langchain_llm_router.apps.cli.plot_command import plot
from langchain_llm_router.apps.cli.refit_command import refit
from langchain_llm_router.apps.cli.replay_command import replay
from langchain_llm_router.apps.cli.serve_command import serve
from langchain_llm_router.apps.cli.start_command import start
from langchain_llm_router.apps.cli.verdict_command import verdict
from langchain_llm_router.types.errors import LlmRouterError, import_extra

__all__ = ["build_app", "run_app"]

_Command = Callable[..., None]

_ABOUT = "Choose the right language model for every query, and prove what that saved."
_COMMANDS: tuple[_Command, ...] = (
    demo,
    start,
    collect,
    fit,
    calibrate,
    evaluate,
    explain,
    replay,
    feedback,
    refit,
    verdict,
    plot,
    serve,
)


def run_app() -> None:
    """Run the command line; an error that a user can mend is printed in one line.

    Raises:
        KeyboardInterrupt: If it is interrupted.
        SystemExit: At its end, with the exit code.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A terminal or a file may have an encoding without λ, or a query half a character.
            stream.reconfigure(errors="backslashreplace")
    try:
        build_app()(prog_name="llm-router")
    except (LlmRouterError, ValueError, OSError) as error:
        text = _os_text(error) if isinstance(error, OSError) else str(error)
        sys.stderr.write(f"llm-router: {' '.join(text.split())}\n")
        sys.exit(1)
    except SystemExit as end:
        if end.code == 130:
            raise KeyboardInterrupt from end
        raise


_ADVICE = {
    PermissionError: "choose another path, or change its permissions",
    FileExistsError: "a folder is needed there, so choose another path",
    NotADirectoryError: "a folder is needed there, so choose another path",
}


def _os_text(error: OSError) -> str:
    """Return what the system says about a path, and what to do."""
    if error.filename is None:
        return str(error)
    advice = _ADVICE.get(type(error))
    text = f"{error.strerror}: {error.filename!r}"
    return f"{text}: {advice}." if advice else f"{text}."


def build_app() -> Any:
    """Make the typer application, whose commands are functions of this package."""
    import_extra("rich", "cli")
    typer = import_extra("typer", "cli")
    app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

    def print_version(requested: bool) -> None:  # noqa: FBT001 - called by typer
        if requested:
            typer.echo(version("langchain-llm-router"))
            raise typer.Exit

    version_option = typer.Option(
        "--version", callback=print_version, is_eager=True, help="Print the version."
    )
    app.callback(help=_ABOUT)(_for_typer(_about, typer, version=version_option))
    for command in _COMMANDS:
        text, examples = _help_texts(command)
        app.command(help=text, epilog=examples)(_for_typer(command, typer))
    return app


def _about(*, version: Annotated[bool, ""] = False) -> None:
    pass


def _help_texts(command: _Command) -> tuple[str, str]:
    """Return the help of a command and its examples, with each paragraph on one line."""
    paragraphs = [" ".join(p.split()) for p in (inspect.getdoc(command) or "").split("\n\n")]
    examples = [p for p in paragraphs if p.startswith("Example:")]
    return "\n\n".join(p for p in paragraphs if p not in examples), "\n\n".join(examples)


def _for_typer(command: _Command, typer: Any, **overrides: Any) -> _Command:
    """Return the command with typer's annotations, made from those of the plain function.

    Parameters before the `*` of its signature become arguments, those after it options; the text
    in `Annotated` is their help.
    """

    @functools.wraps(command)
    def run(**kwargs: Any) -> None:
        check_flags(kwargs)
        positional = [kwargs.pop(name) for name in arguments]
        command(*positional, **kwargs)

    hints = get_type_hints(command, include_extras=True)
    signature = inspect.signature(command)
    arguments = [
        name for name, p in signature.parameters.items() if p.kind is p.POSITIONAL_OR_KEYWORD
    ]
    parameters = []
    for name, parameter in signature.parameters.items():
        kind, text = get_args(hints[name])[:2]
        info: Any = typer.Argument(help=text, show_default=parameter.default is not None)
        if name not in arguments:
            # With an explicit name, a flag gets no `--no-` variant.
            info = typer.Option(f"--{name.replace('_', '-')}", help=text)
        info = overrides.get(name, info)
        parameters.append(parameter.replace(annotation=Annotated[kind, info]))
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    run.__signature__ = signature.replace(parameters=parameters, return_annotation=None)  # type: ignore[attr-defined]
    return run
