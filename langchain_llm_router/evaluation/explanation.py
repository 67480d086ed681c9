"""The parts of an explanation: steps, utilities of the arms, similar queries, outlook."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from langchain_llm_router.evaluation.answer_beliefs import AnswerBelief
from langchain_llm_router.evaluation.flips import Span
from langchain_llm_router.policies import Knob
from langchain_llm_router.types import Decision
from langchain_llm_router.types.figures import format_score, format_usd

__all__ = ["ArmTerms", "Explanation", "Neighbor", "Outlook", "StepTaken"]

_VERB = {"ask": "ask", "verify": "verify", "accept": "keep", "abstain": "abstain from"}
_UNIT = {"lambda": "λ (quality per USD, higher is cheaper)"}
_HEADING = {"cost": "-λ·cost", "latency": "-waiting", "errors": "-errors"}
"""How the terms of a utility are named in a table."""


@dataclass(frozen=True)
class ArmTerms:
    """A candidate's expected quality, cost and latency, and the terms of its utility."""

    candidate: str
    quality: float | None
    """Expected quality, updated by the observed score of the answer, if any."""

    cost_usd: float | None
    latency_s: float | None
    """Expected time to the first token."""

    terms: Mapping[str, float]
    """Weighted parts of the utility: quality above 0; cost, latency and errors below."""

    chosen: bool
    tokens_per_s: float | None = None
    """Expected output tokens per second, the wait for the first one included."""

    @property
    def utility(self) -> float | None:
        """Sum of the terms; None if no term is known."""
        return sum(self.terms.values()) if self.terms else None


@dataclass(frozen=True)
class Neighbor:
    """A similar training query, and the candidates' quality on it."""

    query: str
    similarity: float
    """Cosine similarity of the embeddings, at most 1."""

    quality: Mapping[str, float]


@dataclass(frozen=True)
class StepTaken:
    """One decision, and the choices at other settings of the knob."""

    decision: Decision
    knob: Knob | None
    spans: tuple[Span, ...]
    verdicts: tuple[str, ...] = ()
    """Of a verification whose rationales are known: its verdicts as text."""

    @property
    def flips(self) -> tuple[Span, ...]:
        """The spans with another choice, sorted by their distance from the current setting."""
        if self.knob is None:
            return ()
        now, actual = self.knob.value, (self.decision.action, self.decision.candidate)
        others = [span for span in self.spans if span.choice != actual]

        def distance(span: Span) -> float:
            return span.low - now if span.low > now else now - (span.high or now)

        return tuple(sorted(others, key=distance))

    def told(self) -> list[str]:
        """Return the step as lines of text."""
        decision = self.decision
        lines = [f"{_VERB[decision.action]} {decision.candidate}: {decision.reason}"]
        if self.knob is not None and (len(self.spans) > 1 or self.knob.exact):
            parts = [f"{_VERB[span.action]} {span.candidate} {_range(span)}" for span in self.spans]
            unit = _UNIT.get(self.knob.name, self.knob.name)
            lines.append(f"    {unit}, now {self.knob.value:.4g}: " + "; ".join(parts))
        return [*lines, *(f"    {_short(verdict, 90)}" for verdict in self.verdicts)]


@dataclass(frozen=True)
class Outlook:
    """The decision after a possible score of the first answer."""

    score: float | None
    """The score; None if no verdict is readable."""

    action: str
    candidate: str
    p_good: float | None


@dataclass(frozen=True)
class Explanation:
    """The explanation of a router's decisions on one query, from `explain`.

    Attributes:
        query: Text of the query.
        steps: The decisions in order; without attempts, only the first.
        arms: Every candidate at the last decision that computed scores.
        neighbors: The most similar training queries, if there is training data and the decision is
            made from predictions that an estimator makes from such queries.
        outlook: The decisions after each possible score of a cascade's first answer.
        answered: Whether there are attempts.
        score: The observed score of the first answer; None without one.
        answers: For a policy that compares answers, what it believes of them at the last decision
            that computed scores; None for others.
        sensitive: Why only some candidates may see the query; None if all may.
        gaussians: Each verified answer's own Gaussian by its candidate: the score as mean, and its
            standard error, which is None where no verdicts are behind the score.
    """

    query: str
    steps: tuple[StepTaken, ...]
    arms: tuple[ArmTerms, ...]
    neighbors: tuple[Neighbor, ...] = ()
    outlook: tuple[Outlook, ...] = ()
    answered: bool = False
    score: float | None = None
    answers: AnswerBelief | None = None
    sensitive: str | None = None
    gaussians: Mapping[str, tuple[float, float | None]] = field(default_factory=dict)

    @property
    def weighed(self) -> bool:
        """Whether candidates are chosen by utility, and the quality of every one is known."""
        return (
            self.answers is None
            and len(self.arms) > 0
            and all("quality" in arm.terms for arm in self.arms)
        )

    @property
    def lambda_(self) -> float | None:
        """λ by which the utilities weigh the cost, in quality per USD; None without λ."""
        knob = next((step.knob for step in reversed(self.steps) if step.knob is not None), None)
        return None if knob is None or knob.name != "lambda" else knob.value

    @property
    def decision(self) -> Decision:
        """The last decision."""
        return self.steps[-1].decision

    def text(self) -> str:
        """Return the explanation as text."""
        lines = [_short(self.query, 100)]
        if self.sensitive is not None:
            lines.append(f"  sensitive, so that not every candidate may see it: {self.sensitive}")
        for step in self.steps:
            lines += [f"  {line}" for line in step.told()]
        lines += [
            f"  score of {name}'s answer: {mean:.3f}, standard error {error:.3f}"
            for name, (mean, error) in self.gaussians.items()
            if error is not None
        ]
        if self.weighed:
            lines += ["", *self._arm_lines()]
        if self.answers is not None:
            lines += ["", *self.answers.told()]
        if self.outlook and not self.answered:
            lines += ["", "decisions by the score of the first answer", *self._outlook_lines()]
        if self.neighbors:
            lines += [
                "",
                "the training queries nearest to it, which the estimator predicts from, and the "
                "quality (0 to 1)",
                "of each candidate on them, after the cosine similarity",
            ]
            lines += [f"  {_neighbor_line(neighbor)}" for neighbor in self.neighbors]
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Return the explanation as JSON-ready data."""
        return {
            "query": self.query,
            "candidate": self.decision.candidate,
            "action": self.decision.action,
            "sensitive": self.sensitive,
            "steps": [
                {
                    "action": step.decision.action,
                    "candidate": step.decision.candidate,
                    "reason": step.decision.reason,
                    "confidence": step.decision.confidence,
                    "signal": step.decision.signal,
                    "verdicts": list(step.verdicts),
                    "knob": None if step.knob is None else vars(step.knob),
                    "spans": [vars(span) for span in step.spans],
                }
                for step in self.steps
            ],
            "arms": [
                {**vars(arm), "terms": dict(arm.terms), "utility": arm.utility} for arm in self.arms
            ],
            "neighbors": [{**vars(it), "quality": dict(it.quality)} for it in self.neighbors],
            "outlook": [vars(it) for it in self.outlook],
            "answers": None if self.answers is None else self.answers.as_dict(),
            "gaussians": {
                name: {"mean": mean, "standard_error": error}
                for name, (mean, error) in self.gaussians.items()
            },
        }

    def _arm_lines(self) -> list[str]:
        wide = max(len(arm.candidate) for arm in self.arms)
        names = list(dict.fromkeys(name for arm in self.arms for name in arm.terms))
        shown = [_HEADING.get(name, name) for name in names]
        head = "".join(f"{name:>11}" for name in [*shown, "= utility"]) + f"{'per answer':>13}"
        timed = any(arm.tokens_per_s is not None for arm in self.arms)
        head += f"{'tokens/s':>11}" if timed else ""
        rate = "" if self.lambda_ is None else f", at λ = {self.lambda_:.4g} per USD"
        lines = [
            f"utility of each candidate, in units of quality (0 to 1){rate}",
            f"    {'':<{wide}}{head}",
        ]
        for arm in self.arms:
            cells = "".join(
                f"{arm.terms[name]:>+11.4f}" if name in arm.terms else f"{'unknown':>11}"
                for name in names
            )
            mark = "→" if arm.chosen else " "
            total = "unknown" if arm.utility is None else f"{arm.utility:+.4f}"
            cost = format_usd(arm.cost_usd)
            speed = "unknown" if arm.tokens_per_s is None else f"{arm.tokens_per_s:.3g}"
            last = f"{cost:>13}{speed:>11}" if timed else f"{cost:>13}"
            lines.append(f"  {mark} {arm.candidate:<{wide}}{cells}{total:>11}{last}")
        return lines

    def _outlook_lines(self) -> list[str]:
        lines: list[str] = []
        runs: list[list[Outlook]] = []
        for it in self.outlook:
            if runs and (runs[-1][-1].action, runs[-1][-1].candidate) == (it.action, it.candidate):
                runs[-1].append(it)
            else:
                runs.append([it])
        for run in runs:
            scores = [format_score(it.score) for it in run if it.score is not None]
            named = [] if len(scores) == len(run) else ["no verdict"]
            if scores:
                named.append(f"score {' to '.join(dict.fromkeys([scores[0], scores[-1]]))}")
            lines.append(f"  {', '.join(named)}: {_VERB[run[0].action]} {run[0].candidate}")
        return lines


def _range(span: Span) -> str:
    if span.high is None:
        return f"from {span.low:.4g}" if span.low > 0 else "always"
    return f"{span.low:.4g} to {span.high:.4g}"


def _neighbor_line(neighbor: Neighbor) -> str:
    scores = ", ".join(
        f"{name} {format_score(quality)}" for name, quality in neighbor.quality.items()
    )
    return f"{format_score(neighbor.similarity)}  {_short(neighbor.query, 60):<60}  {scores}"


def _short(text: str, n: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= n else text[: n - 1] + "…"
