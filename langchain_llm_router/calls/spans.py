"""OpenTelemetry spans of routed requests, without LangSmith; needs the extra `otel`.

The attributes follow the semantic conventions for generative AI (`gen_ai.*`), which are still in
development; what they have no name for is under `llm_router.*`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from langchain_core.tracers.base import BaseTracer
from langchain_core.tracers.schemas import Run

from langchain_llm_router.loop.record import verdict_lines
from langchain_llm_router.types.errors import import_extra
from langchain_llm_router.types.secrets import redact
from langchain_llm_router.types.version import __version__

import_extra("opentelemetry.trace", "otel")
from opentelemetry import trace  # noqa: E402
from opentelemetry.trace import SpanKind, Status, StatusCode  # noqa: E402

if TYPE_CHECKING:
    from opentelemetry.trace import Span, TracerProvider

__all__ = ["SpanTracer"]

_PROVIDERS = {
    "amazon_bedrock": "aws.bedrock",
    "azure": "azure.ai.openai",
    "google_genai": "gcp.gemini",
    "google_vertexai": "gcp.vertex_ai",
    "ibm": "ibm.watsonx.ai",
    "mistralai": "mistral_ai",
    "mistral": "mistral_ai",
    "xai": "x_ai",
}
"""Names of providers in the conventions, where LangChain has others."""

_REQUEST = {
    "ls_model_name": "gen_ai.request.model",
    "ls_temperature": "gen_ai.request.temperature",
    "ls_max_tokens": "gen_ai.request.max_tokens",
}
_DECIDED = ("action", "candidate", "policy", "reason", "confidence", "bar", "propensity")
_PREFIX = "llm_router_"
_REQUEST_NAME = "llm_router"


class SpanTracer(BaseTracer):
    """A callback handler that turns a request's runs into OpenTelemetry spans.

    A request is a workflow, `invoke_workflow llm_router`. In it are the decisions, with their
    numbers, the calls of the candidates (`chat MODEL`), each with its own tokens, and the
    verification of an answer, whose result is an event `gen_ai.evaluation.result`. Tokens are on
    spans of calls only, so that a sum over all spans counts each once. A request that fails or is
    cancelled is the same workflow, with its error; what it cancels ends with it.

    Args:
        tracer_provider: The provider of tracers; if None, the global one.
        texts: Whether the spans have texts that may quote a query or an answer: the reasons for
            verdicts, and the messages of errors. Prompts and answers are never in them.

    Example:
        `router.invoke("question", {"callbacks": [SpanTracer()]})`

    References:
        https://github.com/open-telemetry/semantic-conventions-genai
    """

    run_inline = True

    def __init__(
        self, tracer_provider: TracerProvider | None = None, *, texts: bool = False
    ) -> None:
        super().__init__()
        name = "langchain_llm_router"
        self._tracer = trace.get_tracer(name, __version__, tracer_provider)
        self._texts = texts
        self._spans: dict[UUID, Span] = {}
        self._errors: dict[UUID, BaseException] = {}
        self._asked: dict[UUID, list[str]] = {}
        """The candidates asked so far, by the run of the request."""

    def _persist_run(self, run: Run) -> None:
        """Do nothing: each span is exported when it ends."""

    def _on_run_create(self, run: Run) -> None:
        above = None if run.parent_run_id is None else self._spans.get(run.parent_run_id)
        self._spans[run.id] = self._tracer.start_span(
            run.name,
            context=None if above is None else trace.set_span_in_context(above),
            kind=SpanKind.CLIENT if run.run_type == "llm" else SpanKind.INTERNAL,
            start_time=_nanoseconds(run.start_time),
        )

    # A run has the text of its error alone, which need not begin with the name of its class.

    def on_llm_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> Run:
        """Note the error, and end the run."""
        self._note_error(run_id, error)
        return super().on_llm_error(error, run_id=run_id, **kwargs)

    def on_chain_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> Run:
        """Note the error, and end the run."""
        self._note_error(run_id, error)
        return super().on_chain_error(error, run_id=run_id, **kwargs)

    def on_tool_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> Run:
        """Note the error, and end the run."""
        self._note_error(run_id, error)
        return super().on_tool_error(error, run_id=run_id, **kwargs)

    def on_retriever_error(self, error: BaseException, *, run_id: UUID, **kwargs: Any) -> Run:
        """Note the error, and end the run."""
        self._note_error(run_id, error)
        return super().on_retriever_error(error, run_id=run_id, **kwargs)

    def _note_error(self, run_id: UUID, error: BaseException) -> None:
        if run_id in self._spans:
            self._errors[run_id] = error

    def _on_run_update(self, run: Run) -> None:
        span, error = self._spans.pop(run.id, None), self._errors.pop(run.id, None)
        if span is None:
            return
        if error is not None and not isinstance(error, Exception):
            self._end_below(run, error)
        metadata = self._metadata(run, error)
        span.update_name(_span_name(run, metadata))
        attributes = {**_operation(run, metadata), **_routing(run, metadata)}
        if run.run_type == "llm":
            attributes |= _usage(run)
        span.set_attributes({key: it for key, it in attributes.items() if it is not None})
        if "llm_router_verifier" in metadata:
            span.add_event("gen_ai.evaluation.result", self._evaluation(run, metadata))
        if error is not None:
            span.set_attribute("error.type", type(error).__name__)
            message = redact(str(error)) if self._texts else None
            span.set_status(Status(StatusCode.ERROR, message))
        span.end(end_time=_nanoseconds(run.end_time))

    def _end_below(self, run: Run, error: BaseException) -> None:
        """End the spans below a cancelled run, for which LangChain calls no further handlers."""
        for child in run.child_runs:
            if child.id in self._spans:
                self._errors[child.id] = error
                self._on_run_update(child)
                self.run_map.pop(str(child.id), None)

    def _metadata(self, run: Run, error: BaseException | None) -> Mapping[str, Any]:
        """Return what is noted of a run; a request that failed has no outcome to note."""
        metadata = (run.extra or {}).get("metadata") or {}
        decided = _decided(run)
        if decided is not None and run.parent_run_id is not None:
            asked = self._asked.setdefault(run.parent_run_id, [])
            if decided.get("action") == "ask":
                asked.append(str(decided.get("candidate")))
        asked_below = self._asked.pop(run.id, None)
        if error is None or _is_request(metadata):
            return metadata
        if asked_below is None and run.name != _REQUEST_NAME:
            return metadata
        return {**metadata, "llm_router_asked": asked_below or []}

    def _evaluation(self, run: Run, metadata: Mapping[str, Any]) -> dict[str, Any]:
        event = {"gen_ai.evaluation.name": metadata["llm_router_verifier"]}
        if (score := metadata.get("llm_router_score")) is not None:
            event["gen_ai.evaluation.score.value"] = score
        if self._texts and (explanation := _explanation(run)) is not None:
            event["gen_ai.evaluation.explanation"] = explanation
        return event


def _span_name(run: Run, metadata: Mapping[str, Any]) -> str:
    if run.run_type == "llm" and "llm_router_verifier" not in metadata:
        return f"chat {metadata.get('ls_model_name') or run.name}"
    if run.run_type == "tool":
        return f"execute_tool {run.name}"
    return f"invoke_workflow {run.name}" if _is_request(metadata) else str(run.name)


def _is_request(metadata: Mapping[str, Any]) -> bool:
    return "llm_router_asked" in metadata


def _operation(run: Run, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return what kind of operation a run is, and what a model was asked for."""
    if run.run_type == "tool":
        return {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": run.name}
    if run.run_type != "llm":
        workflow = {"gen_ai.operation.name": "invoke_workflow", "gen_ai.agent.name": run.name}
        return workflow if _is_request(metadata) else {}
    provider = metadata.get("ls_provider")
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": _PROVIDERS.get(str(provider), provider),
        **{name: metadata.get(key) for key, name in _REQUEST.items()},
    }


def _routing(run: Run, metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the router has noted of a run, and of a decision its numbers."""
    noted = {
        f"llm_router.{key.removeprefix(_PREFIX)}": value
        for key, value in metadata.items()
        if key.startswith(_PREFIX)
    }
    if (decided := _decided(run)) is not None:
        noted |= {f"llm_router.{key}": decided.get(key) for key in _DECIDED}
        noted["llm_router.scores"] = json.dumps(decided.get("scores") or {}, default=str)
    return noted


def _decided(run: Run) -> Mapping[str, Any] | None:
    """Return the decision that a run shows; None if it shows none."""
    if not run.name.startswith("decide: ") or run.outputs is None:
        return None
    # A node returns the step that it has added.
    decided: Mapping[str, Any] = (run.outputs.get("steps") or [run.outputs])[-1]
    return decided


def _explanation(run: Run) -> str | None:
    """Return what a verifier says of its verdicts: one run for all has it as its message."""
    message, outputs = _answer(run), run.outputs or {}
    if message is not None:
        return str(message.get("content"))
    said = [*verdict_lines(outputs), *outputs.get("verification_errors", [])]
    return "\n".join(said) or None


def _answer(run: Run) -> Mapping[str, Any] | None:
    """Return the fields of the first message that a model replied with; None if it failed."""
    for generations in (run.outputs or {}).get("generations") or ():
        for generation in generations:
            fields = (generation.get("message") or {}).get("kwargs")
            if isinstance(fields, Mapping):
                return fields
    return None


def _usage(run: Run) -> dict[str, Any]:
    """Return the model that answered, why it ended, and the tokens."""
    message = _answer(run) or {}
    told, usage = message.get("response_metadata") or {}, message.get("usage_metadata") or {}
    finish = told.get("finish_reason") or told.get("stop_reason")
    cached = (usage.get("input_token_details") or {}).get("cache_read")
    return {
        "gen_ai.response.model": told.get("model_name") or told.get("model"),
        "gen_ai.response.id": told.get("id"),
        "gen_ai.response.finish_reasons": None if finish is None else [str(finish)],
        "gen_ai.usage.input_tokens": usage.get("input_tokens"),
        "gen_ai.usage.output_tokens": usage.get("output_tokens"),
        "gen_ai.usage.cache_read.input_tokens": cached,
    }


def _nanoseconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp() * 1_000_000) * 1000
