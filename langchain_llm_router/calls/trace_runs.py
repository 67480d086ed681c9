"""A request's runs in traces: their names, and all verdicts on an answer as one run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from langchain_core.callbacks import BaseCallbackManager, CallbackManager
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.outputs import ChatGeneration, LLMResult
from langchain_core.runnables import RunnableConfig

from langchain_llm_router.calls.chat_models import live_model
from langchain_llm_router.calls.langchain_internals import langsmith_params
from langchain_llm_router.loop.record import verdict_lines
from langchain_llm_router.types import Attempt, Candidate, Decision
from langchain_llm_router.types.figures import format_score
from langchain_llm_router.types.usage import usage_of

__all__ = [
    "VERIFICATION",
    "VerdictRun",
    "decision_name",
    "is_tracer",
    "mark_run",
    "mark_verification",
    "verification_name",
]

VERIFICATION = "self_evaluate"
"""Name of the run of a verification before its result is known."""


def decision_name(step: Decision) -> str:
    """Return the name of a decision's run, e.g. `decide: accept small (P 0.970 > 0.790)`."""
    name, p, bar = f"decide: {step.action} {step.candidate}", step.confidence, step.bar
    if p is None:
        return name
    if bar is None:
        return f"{name} (P {format_score(p)})"
    sign = "=" if p == bar else ">" if p > bar else "<"
    return f"{name} (P {format_score(p)} {sign} {format_score(bar)})"


def verification_name(attempt: Attempt) -> str:
    """Return the name of a verification's run, e.g. `self_evaluate ×8 → 0.875`."""
    score, n = attempt.get("confidence"), len(attempt.get("verdicts") or ())
    times = f" ×{n}" if n > 1 else ""
    return f"{VERIFICATION}{times} → {'no verdict' if score is None else format_score(score)}"


def mark_verification(attempt: Attempt, config: RunnableConfig, verifier: object) -> Attempt:
    """Rename the run of a verification and note its result, and return the attempt."""
    noted = _verification_metadata(attempt, type(verifier).__name__)
    mark_run(config, verification_name(attempt), noted)
    return attempt


def _verification_metadata(attempt: Attempt, verifier: str) -> dict[str, Any]:
    """Return what is noted of a verification's run: the verifier's name, the score and the cost."""
    noted = {
        "llm_router_verifier": verifier,
        "llm_router_score": attempt.get("confidence"),
        "llm_router_cost_usd": attempt.get("verification_cost_usd"),
    }
    return {key: it for key, it in noted.items() if it is not None}


def mark_run(
    config: RunnableConfig,
    name: str | None = None,
    metadata: Mapping[str, Any] | None = None,
    *,
    parent: bool = False,
) -> bool:
    """Rename the run that a config belongs to, and add metadata to it, before it ends.

    Args:
        config: The config, whose callbacks are those for children of the run.
        name: The name; None leaves it.
        metadata: What is added.
        parent: Whether the run's parent is meant, which for a node is the graph.

    Returns:
        Whether any tracer knows the run.
    """
    manager = config.get("callbacks")
    run_id, known = getattr(manager, "parent_run_id", None), False
    for handler in getattr(manager, "handlers", ()):
        runs = getattr(handler, "run_map", {})
        run = runs.get(str(run_id))
        if run is not None and parent:
            run = runs.get(str(run.parent_run_id))
        if run is not None:
            known = True
            run.name = name or run.name
            run.add_metadata(dict(metadata or {}))
    return known


class VerdictRun:
    """One run for all verdicts on an answer, in place of a run for each call and its parsing.

    Tracers get the one run, with a line for each verdict and the sum of the tokens. All other
    handlers hear the calls, as `get_usage_metadata_callback`'s must. Use it as a context manager:
    no tracer is added to calls that are made inside.

    Args:
        config: The config of the verification; its callbacks are a manager.
        messages: What is judged: the conversation and the answer.
        judge: The model that judges; None if several do.
        verifier: Name of the verifier.
    """

    def __init__(
        self,
        config: RunnableConfig,
        messages: Sequence[BaseMessage],
        judge: Candidate | None,
        verifier: str,
    ) -> None:
        manager = config["callbacks"]
        assert isinstance(manager, BaseCallbackManager)
        self._tracers = [handler for handler in manager.handlers if is_tracer(handler)]
        others = manager.copy()
        others.handlers = [it for it in manager.handlers if not is_tracer(it)]
        others.inheritable_handlers = [
            it for it in manager.inheritable_handlers if not is_tracer(it)
        ]
        self.config: RunnableConfig = {**config, "callbacks": others}
        """The config for the calls, which the tracers do not hear."""

        model = None if judge is None else live_model(judge)
        named = langsmith_params(model) if isinstance(model, BaseChatModel) else {}
        self._metadata = {
            **(config.get("metadata") or {}),
            **named,
            "llm_router_verifier": verifier,
        }
        self._verifier = verifier
        self._manager, self._tags = manager, list(config.get("tags") or [])
        self._messages = list(messages)

    def __enter__(self) -> Self:
        from langsmith.run_helpers import tracing_context  # noqa: PLC0415 - takes 0.13 s

        own = CallbackManager(
            self._tracers,
            parent_run_id=self._manager.parent_run_id,
            tags=[*self._manager.tags, *self._tags],
            metadata={**self._manager.metadata, **self._metadata},
        )
        (self._run,) = own.on_chat_model_start({}, [self._messages], name=VERIFICATION)
        # Where tracing is switched on for the process, each call would bring its own tracer.
        self._untraced = tracing_context(enabled=False)
        self._untraced.__enter__()
        return self

    def end(self, attempt: Attempt, answers: Sequence[AIMessage]) -> Attempt:
        """End the run with the verdicts on an attempt, and return the attempt.

        Args:
            attempt: The attempt with its verdicts.
            answers: The judge's answers, for their tokens.
        """
        name = verification_name(attempt)
        child: RunnableConfig = {
            "callbacks": CallbackManager(self._tracers, parent_run_id=self._run.run_id)
        }
        mark_run(child, name, _verification_metadata(attempt, self._verifier))
        lines = [*verdict_lines(attempt), *attempt.get("verification_errors", [])]
        message = AIMessage("\n".join(lines) or name, usage_metadata=_sum_usage(answers))
        self._run.on_llm_end(LLMResult(generations=[[ChatGeneration(message=message)]]))
        return attempt

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._untraced.__exit__(kind, error, traceback)
        if error is not None:
            self._run.on_llm_error(error, response=LLMResult(generations=[]))


def is_tracer(handler: Any) -> bool:
    """Return whether a handler keeps a tree of runs, and shows no tokens."""
    from langchain_core.tracers.base import BaseTracer  # noqa: PLC0415 - only with handlers

    return isinstance(handler, BaseTracer) and not hasattr(handler, "tap_output_iter")


def _sum_usage(answers: Sequence[AIMessage]) -> UsageMetadata | None:
    total: UsageMetadata | None = None
    for answer in answers:
        usage = usage_of(answer)
        if answer.usage_metadata is not None and (usage is None or not usage.from_cache):
            total = add_usage(total, answer.usage_metadata)
    return total
