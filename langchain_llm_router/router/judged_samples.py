"""A share of the answers, drawn at random, is judged after they were given."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from threading import Lock
from typing import Any, Protocol

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import RunnableConfig

from langchain_llm_router.budgets.bounds import worst_cost_usd
from langchain_llm_router.budgets.budgets import Budgets
from langchain_llm_router.budgets.token_bounds import bounded_in_units
from langchain_llm_router.calls.ask import Answer, AskOperation
from langchain_llm_router.calls.judge import VerifyOperation
from langchain_llm_router.calls.judge_models import JudgeModels
from langchain_llm_router.history.decision_log import DecisionLog
from langchain_llm_router.live.live import Live
from langchain_llm_router.loop.charges import charged_usd, in_tokens
from langchain_llm_router.loop.loop import Loop
from langchain_llm_router.types import Arm, Attempt, Candidate, Price, Situation, sum_usd
from langchain_llm_router.types.answers import answer_text
from langchain_llm_router.types.errors import BudgetExceededError, LedgerError
from langchain_llm_router.verification import Case, SelfEvaluator

__all__ = ["Answered", "JudgedSamples", "Pool"]

_logger = logging.getLogger(__name__)

_KEY = "judge"
_MOST_WAITING = 100
_N_THREADS = 2


class Pool(Protocol):
    """The candidates of a request, at the prices that held for it."""

    @property
    def by_name(self) -> Mapping[str, Candidate]:
        """The candidates by name."""

    @property
    def price_of(self) -> Callable[[Candidate], Price | None]:
        """Returns what a candidate's tokens cost, a judge's as well."""

    @property
    def ask_operation(self) -> Callable[..., AskOperation]:
        """Returns the operation that asks a candidate."""


class Answered(Protocol):
    """A request that was answered."""

    @property
    def parts(self) -> Pool:
        """Its candidates."""

    decision_id: str
    answers: dict[str, Answer]
    messages: Sequence[BaseMessage]
    kwargs: dict[str, Any]
    config: RunnableConfig

    @property
    def loop(self) -> Loop:
        """Its decisions."""


@dataclass(frozen=True, eq=False)
class _Sample:
    """What judging needs of a request."""

    pool: Pool
    decision_id: str
    situation: Situation
    accepted: str
    """The candidate whose answer was returned."""

    answers: Mapping[str, AIMessage | None]
    messages: Sequence[BaseMessage]
    kwargs: Mapping[str, Any]
    config: RunnableConfig


@dataclass(eq=False)
class JudgedSamples:
    """Judges a share of the answers in the background, and logs the scores as feedback.

    On the same requests the answer of the dearest candidate is judged too, and asked for where the
    request did not get it, because a verdict on the saving compares the two. Which requests are
    drawn depends on the decision id alone. Only text is judged. If the budget does not cover the
    worst case, a request is left out.

    Args:
        share: Share of the requests, in [0, 1].
        judge: The candidate that judges; if None, the dearest one.
        candidates: The router's candidates by name.
        log: Gets the scores, under the key `judge`.
        settings: Keyword arguments of every candidate's call.
        budgets: The budgets that these calls are charged to.
        live: Limits and retries the calls.
        judges: Prepares the judges' models.

    Raises:
        ValueError: If the share is not in [0, 1], the log is missing, or the judge's cost unknown.
    """

    share: float
    judge: Candidate | None
    candidates: Mapping[str, Candidate]
    log: DecisionLog | None
    settings: Mapping[str, Any]
    budgets: Budgets | None = None
    live: Live | None = None
    judges: JudgeModels = field(default_factory=JudgeModels)

    def __post_init__(self) -> None:
        self._lock, self._pending = Lock(), set[Future[None]]()
        self._threads: dict[int, ThreadPoolExecutor] = {}
        if self.log is None:
            msg = (
                "`judge_share` needs a `log`, in which the scores are written: pass a DecisionLog."
            )
            raise ValueError(msg)
        judges = self.candidates.values() if self.judge is None else [self.judge]
        unpriced = [judge.name for judge in judges if judge.price is None]
        if unpriced:
            msg = (
                f"`judge_share` needs to know what judging costs, but {unpriced} have no price: "
                "pass `Candidate(price=...)`, or a `judge` with a price."
            )
            raise ValueError(msg)
        if self.budgets is None:
            return
        unbounded = [judge.name for judge in judges if worst_cost_usd(judge, 0, None) is None]
        if unbounded:
            msg = (
                "`judge_share` is paid from the budget, which needs an upper bound on the length "
                f"of a verdict: set `max_output_tokens` of {unbounded}."
            )
            raise ValueError(msg)

    def offer(self, request: Answered, accepted: str) -> None:
        """Judge a request in the background if it is drawn; returns at once.

        Args:
            request: The request.
            accepted: The candidate whose answer was returned.
        """
        if not self.draws(request.decision_id):
            return
        answers = {name: answer.message for name, answer in request.answers.items()}
        if not _is_text(answers[accepted]):
            return
        sample = _Sample(
            request.parts,
            request.decision_id,
            request.loop.situation,
            accepted,
            answers,
            request.messages,
            request.kwargs,
            request.config,
        )
        with self._lock:
            self._pending.difference_update([it for it in self._pending if it.done()])
            if len(self._pending) >= _MOST_WAITING:
                _logger.warning("An answer is not judged: %d others wait.", len(self._pending))
                return
            # The child of a fork has no threads.
            threads = self._threads.get(os.getpid())
            if threads is None:
                threads = ThreadPoolExecutor(_N_THREADS, "llm-router-judge")
                self._threads[os.getpid()] = threads
            try:
                self._pending.add(threads.submit(self._judge, sample))
            except RuntimeError:
                _logger.warning("An answer is not judged: the interpreter is shutting down.")

    def draws(self, decision_id: str) -> bool:
        """Return whether a request is among the share."""
        digest = blake2b(f"judge:{decision_id}".encode(), digest_size=8).digest()
        return int.from_bytes(digest, "big") / 2.0**64 < self.share

    def wait(self, timeout_s: float | None = None) -> None:
        """Wait until all answers so far are judged; the process does so when it ends."""
        wait(list(self._pending), timeout_s)

    def _judge(self, sample: _Sample) -> None:
        try:
            self._pay(sample)
        except (BudgetExceededError, LedgerError) as error:
            _logger.info("An answer is not judged: %s", error)
        except Exception as error:  # noqa: BLE001 - the answer was given, its score is missing
            _logger.warning("An answer is not judged: %s", type(error).__name__)

    def _pay(self, sample: _Sample) -> None:
        """Reserve the worst case, judge, and settle."""
        costs = {arm.candidate: arm.cost_usd or 0.0 for arm in sample.situation.arms}
        baseline = max(costs, key=costs.__getitem__)
        names = list(dict.fromkeys([sample.accepted, baseline]))
        judge = self.judge or sample.pool.by_name[baseline]
        verifier = SelfEvaluator(1, judge=judge, temperature=0.0)
        arms = self._bounded(sample, names, verifier)
        if self.budgets is None:
            self._score(sample, names, verifier, arms)
            return
        held = self.budgets.reserve(_worst_case(sample, arms), sample.config)
        spent = (math.inf, math.inf)
        try:
            attempts = self._score(sample, names, verifier, arms)
            done = replace(sample.situation, arms=arms, attempts=tuple(attempts))
            spent = charged_usd(done), charged_usd(in_tokens(done))
        finally:
            self.budgets.settle(held, *spent)

    def _bounded(
        self, sample: _Sample, names: Sequence[str], verifier: SelfEvaluator
    ) -> tuple[Arm, ...]:
        arms = tuple(sample.situation.arm(name) for name in names)
        if self.budgets is None:
            return arms
        return bounded_in_units(
            arms,
            sample.pool.by_name,
            sample.messages,
            sample.kwargs,
            in_tokens=self.budgets.in_tokens,
            settings=self.settings,
            verifier=verifier,
            live=self.live,
            price_of=sample.pool.price_of,
        )

    def _score(
        self,
        sample: _Sample,
        names: Sequence[str],
        verifier: SelfEvaluator,
        arms: Sequence[Arm],
    ) -> list[Attempt]:
        """Judge the returned answer and the dearest candidate's, and log the scores."""
        assert self.log is not None
        config = _detached_config(sample.config)
        attempts: list[Attempt] = []
        for name, arm in zip(names, arms, strict=True):
            message, attempt = sample.answers.get(name), Attempt(candidate=name, cost_usd=0.0)
            asked_usd: float | None = None
            if message is None:
                asking = sample.pool.ask_operation(
                    name, sample.messages, config, sample.kwargs, final=True
                )
                answer = asking.perform()
                message, attempt = answer.message, answer.attempt
                # The log has no other record of this answer.
                asked_usd = attempt.get("cost_usd")
            if message is None or not _is_text(message):
                attempts.append(attempt)
                continue
            judging = VerifyOperation(
                verifier=verifier,
                case=Case(sample.messages, message, sample.pool.by_name[name]),
                attempt=attempt,
                config=config,
                guard=None if self.live is None else self.live.judging(None),
                models=self.judges,
                price_of=sample.pool.price_of,
                worst_usd=arm.worst_verification_usd,
            )
            attempt = judging.perform()
            attempts.append(attempt)
            score = attempt.get("confidence")
            if score is not None:
                named: list[str | None] = [None] if name == sample.accepted else []
                named += [name] if name == names[-1] else []
                for candidate in named:
                    self.log.feedback(
                        sample.decision_id,
                        score,
                        key=_KEY,
                        candidate=candidate,
                        cost_usd=asked_usd,
                    )
        return attempts


def _is_text(message: AIMessage | None) -> bool:
    """Return whether an answer has a text to judge, and calls no tool."""
    return message is not None and not message.tool_calls and bool(answer_text(message).strip())


def _worst_case(sample: _Sample, arms: Sequence[Arm]) -> Situation:
    """Return a situation whose only arm has the worst case of all that judging a sample costs."""
    to_ask = [arm for arm in arms if sample.answers.get(arm.candidate) is None]
    usd = [arm.worst_verification_usd for arm in arms]
    tokens = [arm.worst_verification_tokens for arm in arms]
    arm = Arm(
        "judging",
        worst_cost_usd=sum_usd([*usd, *(arm.worst_asking_usd for arm in to_ask)]),
        worst_asking_tokens=sum_usd([*tokens, *(arm.worst_asking_tokens for arm in to_ask)]),
        worst_verification_tokens=0.0,
        unbounded="; ".join(arm.unbounded for arm in arms if arm.unbounded) or None,
    )
    return replace(sample.situation, arms=(arm,), attempts=())


def _detached_config(config: RunnableConfig) -> RunnableConfig:
    """Return the config without the request's runs, streams and graph."""
    known = config.get("configurable") or {}
    configurable = {key: value for key, value in known.items() if not key.startswith("__")}
    return {"configurable": configurable, "metadata": config.get("metadata") or {}}
