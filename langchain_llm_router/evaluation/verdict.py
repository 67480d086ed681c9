"""The verdict on a router, and its words.

`judgement.decide_verdict` makes it. The sentence is made of the verdict's numbers alone, so no
text can say more than they do.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from langchain_llm_router.evaluation.intervals import Interval

__all__ = ["Outcome", "Reason", "Verdict"]

Outcome = Literal["kept", "not_kept", "unknown"]
Reason = Literal[
    "proven",
    "better",
    "missed",
    "dearer",
    "random",
    "single",
    "unreachable",
    "few rows",
    "no prices",
]


@dataclass(frozen=True)
class Verdict:
    """Whether a router keeps its target for less than the best single model costs.

    Attributes:
        outcome: `"kept"` if every claim is proven, or all but that it is cheaper while it is
            proven better for at most 5 % more money; `"not_kept"` if one is refuted, a single model
            does as well, or no practical number of rows could prove it; `"unknown"` if these rows
            cannot say.
        reason: Why: `"proven"`; `"better"` for about the same money; the target is `"missed"`, the
            router `"dearer"` than the best single model, not better than a `"random"` choice, or a
            `"single"` model does as well; the claim is `"unreachable"` with any practical number of
            rows; there are too `"few rows"`; or `"no prices"` to say what is saved.
        about: What the reason is about: the target, the cost, or the random choice.
        goal: The targets in words.
        confidence: Confidence level of a kept target.
        n_rows: Number of rows; those that belong together, e.g. of one question, count once.
        best: Name of the best single model.
        use: Name of the single model to use instead; None if the target is kept.
        gap: Quality minus that of the best single model, with its 95 % interval.
        gap_bound: The quality gap is not below this with the confidence level.
        saved: Share of the best single model's cost that is saved, with its 95 % interval; None if
            a cost is unknown or the best model is free.
        is_free: Whether the best single model costs nothing.
        margin: Margin of the target that is closest to being missed, with its 95 % interval.
        above_random: Quality above that of a random choice among single models of the same cost,
            with its 95 % interval; None if a cost is unknown.
        use_gap: Quality of `use` minus that of the best single model; None if `use` is the best.
        use_saved: Share of the best single model's cost that `use` saves, likewise.
        use_keeps: Whether `use` keeps the targets on average; None if that is unknown.
        more_rows: Estimate of the further rows that would prove the claims if the router is as good
            as it seems, or where its quality cannot be told from the best single model's, as good
            as that; None unless the outcome is unknown.
        more_rows_hoped: Whether no gain is seen, e.g. because wins and losses cancel, so that
            `more_rows` presumes half of the largest gain that these rows allow. Without such a
            gain, no number of rows proves the claim.
        easier: An easier target and the further rows that would prove it, where rows are missing,
            the target is out of reach or missed; None if there is none.
    """

    outcome: Outcome
    reason: Reason
    about: Literal["target", "cheaper", "better than random"]
    goal: str
    confidence: float
    n_rows: int
    best: str
    use: str | None
    gap: Interval
    gap_bound: float
    saved: Interval | None
    margin: Interval
    above_random: Interval | None
    use_gap: Interval | None = None
    use_saved: Interval | None = None
    use_keeps: bool | None = None
    more_rows: int | None = None
    easier: tuple[str, int] | None = None
    is_free: bool = False
    more_rows_hoped: bool = False

    @property
    def sentence(self) -> str:
        """The verdict in words, with its numbers."""
        return f"{self._facts(self.saved, self.gap)}: {self._conclusion()}"

    def _facts(self, saved: Interval | None, gap: Interval) -> str:
        money = _money(saved, self.best)
        if saved is None and self.is_free:
            money = f"`{self.best}` costs nothing, so nothing can be saved"
        return f"{money}, quality {_points(gap)}"

    def _conclusion(self) -> str:
        goal, alone = f"the target `{self.goal}`", self._advice()
        level = f"{100 * self.confidence:.4g} %"
        bound = f"{_signed(self.gap_bound)} points"
        texts: dict[Reason, str] = {
            "proven": f"{goal} is kept with {level} confidence (quality not below {bound}).",
            "better": f"it is better than `{self.best}` alone for about the same money, and {goal} "
            f"is kept with {level} confidence (quality not below {bound}).",
            "missed": f"{goal} is not kept{self._but_kept()}; {alone}.",
            "dearer": f"{self._not_cheaper()}; {alone}.",
            "random": "sending as many questions to each model at random does as well for the same "
            f"money; {alone}.",
            "single": f"{self._single()}; {alone}.",
            "unreachable": "no practical number of questions would show that "
            f"{self._claim()}{self._within_reach()}; {alone}.",
            "few rows": f"whether {self._claim()} {self._needs()} Until then, {alone}.",
            "no prices": "what it saves cannot be said, because the cost of some answers is "
            "unknown: give every model a price, and record some answers of the single model. "
            f"Until then, {alone}.",
        }
        return texts[self.reason]

    def _advice(self) -> str:
        if self.use_keeps is False:
            return f"no single model here keeps it either, the best is `{self.use}`"
        if self.use_keeps is None:
            return f"the best single model is `{self.use}`"
        return f"use `{self.use}` alone"

    def _single(self) -> str:
        text = f"`{self.use}` alone keeps the target `{self.goal}` for less"
        if self.use_gap is None:
            return text
        facts = self._facts(self.use_saved, self.use_gap)
        return f"{text} ({facts[0].lower()}{facts[1:]})"

    def _not_cheaper(self) -> str:
        if self.gap.low > 0:
            # What better answers are worth is not known, so one that costs more is not kept.
            return (
                f"it is better than `{self.best}` alone, but not cheaper. If that is worth it, "
                "give λ in quality per dollar, or save it even if worse. Otherwise"
            )
        return f"no router here is cheaper than `{self.best}` alone"

    def _claim(self) -> str:
        if self.about == "cheaper":
            return f"it is cheaper than `{self.best}` alone"
        if self.about == "better than random":
            return "it beats sending as many questions to each model at random for the same money"
        return f"the target `{self.goal}` is kept"

    def _needs(self) -> str:
        text = f"cannot be said yet from {self.n_rows:,} question{'s' * (self.n_rows != 1)}"
        if self.more_rows is None:
            return f"{text}."
        text += f": it needs about {_round(self.more_rows):,} more"
        if self.more_rows_hoped:
            text += ", if its true gain is half of the largest that these allow"
        return f"{text}{'' if self.easier is None else f'; {self._enough(self.easier)}'}."

    def _within_reach(self) -> str:
        return "" if self.easier is None else f" ({self._enough(self.easier)})"

    def _but_kept(self) -> str:
        if self.easier is None:
            return ""
        target, more = self.easier
        if more == 0:
            return f" (`{target}` is)"
        return f" ({_round(more):,} more questions would show that `{target}` is)"

    def _enough(self, easier: tuple[str, int]) -> str:
        target, more = easier
        enough = "these would do" if more == 0 else f"{_round(more):,} more would do"
        return f"{enough} for `{target}`"

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict as JSON-ready data; an interval is `[value, low, high]`."""
        return {
            "verdict": self.outcome,
            "reason": self.reason,
            "about": self.about,
            "sentence": self.sentence,
            "target": self.goal,
            "confidence": self.confidence,
            "n_rows": self.n_rows,
            "best_single": self.best,
            "use_instead": self.use,
            "use_keeps_target": self.use_keeps,
            "quality_above_best_single": self.gap.as_list(),
            "quality_above_best_single_at_least": self.gap_bound,
            "saved": _as_list(self.saved),
            "best_single_is_free": self.is_free,
            "margin": self.margin.as_list(),
            "quality_above_random_choice": _as_list(self.above_random),
            "more_rows": self.more_rows,
            "more_rows_hoped": self.more_rows_hoped,
            "easier_target": None if self.easier is None else list(self.easier),
        }

    def save(self, folder: str | Path) -> Path:
        """Write the verdict beside a saved router, where its page finds the sentence."""
        path = Path(folder) / "verdict.json"
        text = json.dumps(self.as_dict(), indent=2, ensure_ascii=False, allow_nan=False)
        path.write_text(text + "\n", encoding="utf-8")
        return path


def _as_list(interval: Interval | None) -> list[float | None] | None:
    return None if interval is None else interval.as_list()


def _money(saved: Interval | None, name: str) -> str:
    if saved is None:
        return f"The saving against `{name}` is unknown"
    share = f"{_amount(saved.value)} than `{name}`"
    if saved.low >= 0 or saved.high <= 0:
        low, high = sorted((abs(saved.low), abs(saved.high)))
        if math.isfinite(high):
            return f"{share} ({_percent(low)} to {_percent(high)})"
    return f"{share} ({_amount(saved.low)} to {_amount(saved.high)})"


def _amount(saved: float) -> str:
    """Return a saving in words, e.g. "12 % cheaper" or "3 % dearer"."""
    if not math.isfinite(saved):
        return "any amount dearer"
    return f"{_percent(abs(saved))} % {'dearer' if saved < 0 else 'cheaper'}"


def _percent(share: float) -> str:
    return f"{round(100 * share)}"


def _points(gap: Interval) -> str:
    low, value, high = (_signed(x) for x in (gap.low, gap.value, gap.high))
    return f"{value} points ({low} to {high})"


def _signed(quality: float) -> str:
    text = f"{100 * quality:+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text


def _round(rows: int) -> int:
    """Round up to two digits, because the estimate is no better."""
    unit = int(10 ** max(0, len(str(rows)) - 2))
    return -(-rows // unit) * unit
