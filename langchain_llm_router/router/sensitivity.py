"""What a rule on sensitive requests means for one router's parts."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from langchain_core.embeddings import Embeddings
from langchain_core.messages import BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.runnables.config import run_in_executor

from langchain_llm_router.calls.judge import VerifyOperation
from langchain_llm_router.calls.langchain_internals import is_router
from langchain_llm_router.calls.tracing import quiet_config
from langchain_llm_router.loop.sensitive import Sensitive, earlier_reason, pattern_reason
from langchain_llm_router.types import Candidate
from langchain_llm_router.types.arguments import is_bool
from langchain_llm_router.types.errors import NoCandidateError, is_pause
from langchain_llm_router.types.operations import Operation
from langchain_llm_router.verification import DecisionVerifier, Verifier

__all__ = ["Confinement", "SensitivityOperation", "confine_verdict"]

_OURS = __name__.partition(".")[0]
_MAX_DEPTH = 6


class Confinement:
    """Who may see a router's sensitive requests.

    Args:
        sensitive: The rule.
        candidates: The router's candidates, with endpoints expanded.
        verifier: The router's verifier, whose judges may be named too.

    Raises:
        ValueError: If the rule names no candidate, or a name is unknown, or a named candidate is a
            router without a rule of its own, or an agent is not named.
    """

    def __init__(
        self, sensitive: Sensitive, candidates: Sequence[Candidate], verifier: Verifier | None
    ) -> None:
        self.sensitive, named = sensitive, set(sensitive.candidates)
        chosen = [c for c in candidates if named & {c.name, c.model_name, c.effort_of}]
        judges = set()
        if verifier is not None:
            judges = {judge.name for c in candidates for judge, _ in verifier.most_calls(c)}
        known = {n for c in candidates for n in (c.name, c.model_name, c.effort_of)} | judges
        unknown = sorted(named - known)
        if unknown or not chosen:
            msg = (
                f"`sensitive` must name candidates that may see sensitive requests, of "
                f"{[c.name for c in candidates]}, got {list(sensitive.candidates)}."
            )
            raise ValueError(msg)
        for candidate in chosen:
            parts = getattr(candidate.model, "parts", None)
            if is_router(candidate.model) and getattr(parts, "confinement", None) is None:
                msg = (
                    f"Candidate {candidate.name!r} is a router, which may ask any of its own "
                    "candidates: give that router a `sensitive` too."
                )
                raise ValueError(msg)
        self.may_see = frozenset({c.name for c in chosen} | (named & judges))
        agents = [c.name for c in candidates if c.is_agent and c.name not in self.may_see]
        if agents:
            msg = (
                f"The agents {agents} must be among those that may see sensitive requests, because "
                "no rule reads what their own tools return: name them, or give the model inside "
                "each agent the rule, as a router with `sensitive`."
            )
            raise ValueError(msg)
        self._excluded = [c.name for c in candidates if c.name not in self.may_see]

    def closed(self, reason: str | None) -> dict[str, str]:
        """Return why each candidate that must not see the request must not, by name."""
        if reason is None:
            return {}
        return dict.fromkeys(self._excluded, f"the request is sensitive ({reason})")

    def leaves_out(self, part: object) -> NoCandidateError | None:
        """Return why a part is not used for a sensitive request; None if it may be used."""
        service = None if self.sensitive.local_parts else next(_services(part), None)
        if service is None:
            return None
        its = "it" if service is part else f"its {type(service).__name__}"
        return NoCandidateError(
            f"{type(part).__name__} was left out because the request is sensitive and {its} may "
            "send it away: if not, set `local_parts` of `Sensitive`."
        )


def _services(part: Any, depth: int = 0) -> Iterator[object]:
    """Yield what among a part's attributes may send texts to a service."""
    if isinstance(part, Candidate | DecisionVerifier) or depth > _MAX_DEPTH:
        # Calls of judges are held back one by one.
        return
    ours = type(part).__module__.partition(".")[0] == _OURS
    kinds = {kind.__name__ for kind in type(part).__mro__}
    if not ours and depth == 0:
        # What a user's own class does cannot be known.
        yield part
    # A store and a decision model by name, because their modules are slow to load.
    elif not ours and (
        isinstance(part, Embeddings) or kinds & {"VectorStore", "BaseDecisionModel"}
    ):
        yield part
    elif isinstance(part, Mapping):
        for value in part.values():
            yield from _services(value, depth + 1)
    elif isinstance(part, list | tuple):
        for value in part:
            yield from _services(value, depth + 1)
    elif ours:
        for value in getattr(part, "__dict__", {}).values():
            yield from _services(value, depth + 1)


@dataclass(frozen=True)
class SensitivityOperation(Operation):
    """The operation that finds out whether a request is sensitive; its result is why, or None."""

    sensitive: Sensitive
    messages: Sequence[BaseMessage]
    kwargs: Mapping[str, Any]
    config: RunnableConfig

    def perform(self) -> str | None:
        """Apply the rule in this thread."""
        rule = self.sensitive.rule
        try:
            if isinstance(rule, Runnable):
                verdict = rule.invoke(list(self.messages), quiet_config(self.config))
                return self._read(verdict)
            return self._apply()
        except Exception as error:  # noqa: BLE001 - a rule that fails for any reason is no leave
            return _failed(error)

    async def aperform(self) -> str | None:
        """Apply the rule; a function in a thread, so that the event loop is not blocked."""
        rule = self.sensitive.rule
        try:
            if isinstance(rule, Runnable):
                verdict = await rule.ainvoke(list(self.messages), quiet_config(self.config))
                return self._read(verdict)
            if self.sensitive.patterns is None:
                return await run_in_executor(None, self._apply)
            return self._apply()
        except Exception as error:  # noqa: BLE001 - a rule that fails for any reason is no leave
            return _failed(error)

    def _apply(self) -> str | None:
        rule = self.sensitive.rule
        if self.sensitive.patterns is None and callable(rule):
            return self._read(rule(list(self.messages)))
        found = pattern_reason(self.sensitive, self.messages, self.kwargs)
        return found or earlier_reason(self.messages)

    def _read(self, verdict: Any) -> str | None:
        if is_bool(verdict):
            by_rule = f"by the rule {_name(self.sensitive.rule)}"
            return by_rule if verdict else earlier_reason(self.messages)
        return f"the rule returned neither True nor False, but a {type(verdict).__name__}"


def confine_verdict(
    verifying: VerifyOperation,
    confinement: Confinement,
    known: str | None,
    kwargs: Mapping[str, Any],
) -> Generator[Operation, Any, VerifyOperation]:
    """Keep a verdict with those that may see the request and the drafts that it is about.

    A harmless request can have a sensitive draft, e.g. of what a tool returned.

    Args:
        verifying: The verification.
        confinement: Who may see sensitive requests.
        known: Why the request is sensitive; None if it is not, as far as is known.
        kwargs: Keyword arguments of the call.
    """
    case = verifying.case
    drafts = [*(answer for _, answer in case.earlier), case.answer]
    if known is None:
        messages = [*case.messages, *drafts]
        known = yield SensitivityOperation(
            confinement.sensitive, messages, kwargs, verifying.config
        )
    if known is None:
        return verifying
    refusal = confinement.leaves_out(verifying.verifier)
    return replace(verifying, may_see=confinement.may_see, refusal=refusal)


def _failed(error: Exception) -> str:
    """Return why a rule that raised calls a request sensitive, without what the error says."""
    if is_pause(error):
        raise error
    return f"the rule raised {type(error).__name__}"


def _name(rule: object) -> str:
    return str(getattr(rule, "__qualname__", None) or type(rule).__name__)
