"""The application: every command, and how a run of one ends."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from importlib.metadata import version
from typing import Annotated, Any, get_args, get_type_hints

from langchain_llm_router.apps.cli.calibrate_command import calibrate
from langchain_llm_router.apps.cli.collect_command import collect
from langchain_llm_router.apps.cli.demo_command import demo
from langchain_llm_router.apps.cli.evaluate_command import evaluate
from langchain_llm_router.apps.cli.explain_command import explain
from langchain_llm_router.apps.cli.feedback_command import feedback
from langchain_llm_router.apps.cli.fit_command import fit
from langchain_llm_router.apps.cli.plot_command import plot
from langchain_llm_router.apps.cli.refit_command import refit
from langchain_llm_router.apps.cli.replay_command import replay
from langchain_llm_router.apps.cli.serve_command import serve
from langchain_llm_router.types.errors import LlmRouterError, import_extra

__all__ = ["build_app", "main"]

Command = Callable[..., None]

_ABOUT = "Choose the right language model for every query, and prove what that saved."
_COMMANDS: tuple[Command, ...] = (
    demo,
    collect,
    fit,
    calibrate,
    evaluate,
    explain,
    replay,
    feedback,
    refit,
    plot,
    serve,
)


def main() -> None:
    """Run the command line; a user's mistake ends in one line, not in a traceback.

    Exit codes: 0 done, 1 it could not be done, 2 the command was not understood, 130 interrupted.
    """
    try:
        build_app()(prog_name="llm-router")
    except (LlmRouterError, ValueError, OSError) as error:
        sys.stderr.write(f"llm-router: {' '.join(str(error).split())}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        _interrupted()
    except SystemExit as end:
        if end.code == 130:
            _interrupted()
        raise


def _interrupted() -> None:
    sys.stderr.write("llm-router: interrupted\n")
    sys.exit(130)


def build_app() -> Any:
    """The typer application; each command is a function of this package."""
    import_extra("rich", "cli")
    typer = import_extra("typer", "cli")
    app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)

    def tell(wanted: bool) -> None:  # noqa: FBT001 - typer calls it so
        if wanted:
            typer.echo(version("langchain-llm-router"))
            raise typer.Exit

    told = typer.Option("--version", callback=tell, is_eager=True, help="Print the version.")
    app.callback(help=_ABOUT)(_for_typer(_about, typer, version=told))
    for command in _COMMANDS:
        text, examples = _told(command)
        app.command(help=text, epilog=examples)(_for_typer(command, typer))
    return app


def _about(*, version: Annotated[bool, ""] = False) -> None:
    pass


def _told(command: Command) -> tuple[str, str]:
    """What a command does, and its examples, each paragraph on one line."""
    paragraphs = [" ".join(p.split()) for p in (inspect.getdoc(command) or "").split("\n\n")]
    examples = [p for p in paragraphs if p.startswith("Example:")]
    return "\n\n".join(p for p in paragraphs if p not in examples), "\n\n".join(examples)


def _for_typer(command: Command, typer: Any, **special: Any) -> Command:
    """The command with typer's annotations: a plain function says all that is needed.

    Parameters before the `*` of its signature are arguments, those after it options; the
    text in `Annotated` is their help.
    """

    @functools.wraps(command)
    def run(**given: Any) -> None:
        positional = [given.pop(name) for name in arguments]
        command(*positional, **given)

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
            # Named, so that a flag has no `--no-` beside it.
            info = typer.Option(f"--{name.replace('_', '-')}", help=text)
        info = special.get(name, info)
        parameters.append(parameter.replace(annotation=Annotated[kind, info]))
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    run.__signature__ = signature.replace(parameters=parameters, return_annotation=None)  # type: ignore[attr-defined]
    return run
