"""The contest: all contenders are trained and compared; the winner is calibrated and tested."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from langchain_llm_router.evaluation import Sweep, best_single
from langchain_llm_router.evaluation.intervals import Interval, mean_interval
from langchain_llm_router.policies import Policy
from langchain_llm_router.router.saved_router import SavedRouter, mean_costs
from langchain_llm_router.training import Calibrated, Target, Trials, meet_target, try_all
from langchain_llm_router.training.contenders import Contender, Tables, contenders
from langchain_llm_router.training.fitted_router import Fitted, Standing
from langchain_llm_router.training.trials import Family
from langchain_llm_router.types.arrays import Floats, Indices
from langchain_llm_router.types.errors import CalibrationError
from langchain_llm_router.types.progress import Progress, Watch

__all__ = ["Contest", "Goal", "Parts"]

_N_LAMBDAS_COMPARED = 10
_N_LAMBDAS_CALIBRATED = 30
_TRIED_SPAN = 10.0
_N_LAMBDAS_SHOWN = 19
_SHOWN_SPAN = 10.0


@dataclass(frozen=True)
class Goal:
    """A target in words, and the probability to promise it with, if any."""

    target: str
    confidence: float | None = None


@dataclass(frozen=True)
class Parts:
    """Disjoint rows, each in random order."""

    train: Indices
    pick: Indices
    calibrate: Indices | None
    test: Indices

    @property
    def known(self) -> Indices:
        """Those that may train the winner once it has been picked."""
        return np.concatenate([self.train, self.pick])

    @property
    def seen(self) -> Indices:
        """All rows that the router has seen: every row but those that test it."""
        rows = [self.known] if self.calibrate is None else [self.known, self.calibrate]
        return np.concatenate(rows)

    @property
    def sizes(self) -> dict[str, int]:
        """How many rows do each job."""
        jobs = {
            "training": self.train,
            "picking": self.pick,
            "calibrating": self.calibrate,
            "testing": self.test,
        }
        return {job: len(rows) for job, rows in jobs.items() if rows is not None}


Entry = tuple[Standing, Contender]


@dataclass(frozen=True)
class Contest:
    """All contenders, trained on `tables` and ranked by λ or by a target.

    Args:
        tables: All rows.
        lambda_: λ, quality per dollar, that all contenders are ranked by.
        scale: λ at which the cheapest and the best candidate are worth the same: settings are
            tried around it.
        watch: Is told which contender is being trained, calibrated and tested.
    """

    tables: Tables
    lambda_: float
    scale: float
    watch: Watch | None = None

    def run(self, parts: Parts, goal: Goal | None) -> Fitted:
        """Train and compare all contenders; calibrate the winner to the target and test it."""
        entries: list[Entry] = []
        left_out: dict[str, str] = {}
        rival = self.best_single(parts.known, goal)
        entered = list(contenders(self.tables))
        progress = Progress(self.watch, len(entered) + (1 if goal is None else 2))
        for contender in entered:
            progress.begin(contender.name)
            try:
                entries.append((self._standing(contender, parts, goal, rival), contender))
            except (ValueError, CalibrationError) as error:
                left_out[contender.name] = str(error)
        if len(entries) == 0:
            raise CalibrationError(
                f"No contender meets the target: {next(iter(left_out.values()))}"
            )
        entries.sort(key=lambda entry: self._rank(entry[0], goal))
        if goal is None:
            winner, found = entries[0][1], None
            known = parts.known
            policy = winner.train(known)(self.lambda_)
        else:
            progress.begin("calibrating the winner to the target")
            winner, policy, found, known = self._calibrated(entries, parts, goal)
        progress.begin(f"testing {winner.name}")
        return self._tested(
            winner, policy, known, parts, rival, entries=entries, left_out=left_out, found=found
        )

    # Comparing

    def _standing(
        self, contender: Contender, parts: Parts, goal: Goal | None, rival: str
    ) -> Standing:
        if goal is None:
            policy = contender.train(parts.train)(self.lambda_)
            done = contender.replayed(policy, self.tables, parts.train, parts.pick)
            quality, cost = float(done.quality.mean()), float(done.cost_usd.mean())
            knob = self.lambda_
        else:
            if goal.confidence is not None and rival not in contender.candidates:
                msg = f"it cannot fall back on {rival}, so nothing can be promised"
                raise ValueError(msg)
            trials = self._trials(
                contender,
                contender.train(parts.train),
                parts.train,
                parts.pick,
                _N_LAMBDAS_COMPARED,
            )
            everything = np.arange(len(parts.pick))
            found = meet_target(trials, goal.target, split=(everything, everything))
            assert found.cost_usd is not None, "unknown costs are left out"
            quality, cost, knob = found.quality.value, found.cost_usd.value, found.knob
        return Standing(contender.name, quality - self.lambda_ * cost, quality, cost, knob)

    def _rank(self, standing: Standing, goal: Goal | None) -> tuple[float, float]:
        """Smaller is better; ties go to the cheaper or the better one."""
        if goal is None:
            return -standing.utility, standing.cost_usd
        if Target.parse(goal.target).metric == "quality":
            return standing.cost_usd, -standing.quality
        return -standing.quality, standing.cost_usd

    def _trials(
        self, contender: Contender, family: Family, known: Indices, judged: Indices, n: int
    ) -> Trials:
        """Replay every λ on some rows; single models: all, not only the chain's."""
        quality, outcomes, evaluations, costs = contender.replay_tables(self.tables, known, judged)
        table = self.tables.outcomes.take(judged)
        trials = try_all(
            family,
            [0.0, *np.geomspace(self.scale / _TRIED_SPAN, self.scale * _TRIED_SPAN, n)],
            outcomes,
            quality=quality,
            evaluations=evaluations,
            expected_cost_usd=costs,
        )
        if np.isnan(trials.cost_usd).any():
            msg = "what verifying cost is unknown for some answers"
            raise ValueError(msg)
        strong = trials.strong
        if contender.candidates[-1] != table.candidates[-1]:
            strong = np.zeros_like(strong)
        assert table.cost_usd is not None, "a router is fitted on known costs only"
        return replace(
            trials,
            strong=strong,
            single_quality=table.quality,
            single_cost_usd=table.cost_usd,
        )

    # Calibrating

    def _calibrated(
        self, entries: Iterable[Entry], parts: Parts, goal: Goal
    ) -> tuple[Contender, Policy, Calibrated, Indices]:
        """Set the winner's λ on rows that were not used to pick it.

        A promise is made for the first contender or not at all: trying contenders until one passes
        would weaken the promise. Without a promise, the next contenders may be tried.
        """
        assert parts.calibrate is not None, "there is a target"
        first: CalibrationError | None = None
        for _, contender in entries:
            try:
                return contender, *self._set(contender, parts, goal)
            except CalibrationError as error:
                if goal.confidence is not None:
                    raise
                first = first or error
        assert first is not None, "there are contenders"
        raise first

    def _set(
        self, contender: Contender, parts: Parts, goal: Goal
    ) -> tuple[Policy, Calibrated, Indices]:
        assert parts.calibrate is not None, "there is a target"
        if goal.confidence is None:
            # λ is chosen on the calibrating rows; the untouched ones check it.
            known, chosen, checked = parts.known, parts.calibrate, parts.test
        else:
            # The picking rows order the settings, the calibrating ones test them.
            known, chosen, checked = parts.train, parts.pick, parts.calibrate
        family = contender.train(known)
        both = np.concatenate([chosen, checked])
        trials = self._trials(contender, family, known, both, _N_LAMBDAS_CALIBRATED)
        split = np.arange(len(chosen)), np.arange(len(chosen), len(both))
        found = meet_target(trials, goal.target, confidence=goal.confidence, split=split)
        return family(found.knob), found, known

    # Testing

    def best_single(self, rows: Indices, goal: Goal | None) -> str:
        """The single model to beat, as these rows see it."""
        known = self.tables.outcomes.take(rows)
        assert known.cost_usd is not None, "a router is fitted on known costs only"
        if goal is not None:
            return known.candidates[best_single(known)]
        utility = (known.quality - self.lambda_ * known.cost_usd).mean(axis=0)
        # With the default λ the cheapest and the best tie; the better one is the honest rival.
        close = np.flatnonzero(utility >= utility.max() - 1e-9)
        best = max(close, key=lambda j: known.quality[:, j].mean())
        return known.candidates[int(best)]

    def _tested(
        self,
        winner: Contender,
        policy: Policy,
        known: Indices,
        parts: Parts,
        rival: str,
        *,
        entries: list[Entry],
        left_out: dict[str, str],
        found: Calibrated | None,
    ) -> Fitted:
        test = self.tables.outcomes.take(parts.test)
        done = winner.replayed(policy, self.tables, known, parts.test)
        gain = done.quality - self.lambda_ * done.cost_usd - self._utility(parts.test, rival)
        sweep = self._sweep(winner, known, parts.test)
        standings = [standing for standing, _ in entries]
        mine = next(standing for standing, contender in entries if contender is winner)
        standings.remove(mine)
        return Fitted(
            router=self._router(winner, policy, known).taught_by(
                self.tables.outcomes.take(parts.seen).queries
            ),
            lambda_=self.lambda_,
            standings=(mine, *standings),
            left_out=left_out,
            calibrated=found,
            n_rows=parts.sizes,
            test=test,
            replay=done,
            single=rival,
            gain=mean_interval(gain),
            sweep=sweep,
            margins=self._margins(sweep, known, parts.test),
        )

    def _utility(self, rows: Indices, name: str, lambda_: float | None = None) -> Floats:
        alone = self.tables.outcomes.take(rows).select([name])
        assert alone.cost_usd is not None, "a router is fitted on known costs only"
        rate = self.lambda_ if lambda_ is None else lambda_
        values: Floats = alone.quality[:, 0] - rate * alone.cost_usd[:, 0]
        return values

    def _sweep(self, winner: Contender, known: Indices, test: Indices) -> Sweep:
        knobs = np.geomspace(self.scale / _SHOWN_SPAN, self.scale * _SHOWN_SPAN, _N_LAMBDAS_SHOWN)
        family = winner.train(known)
        done = [winner.replayed(family(float(k)), self.tables, known, test) for k in knobs]
        return Sweep(
            knobs, np.array([d.quality for d in done]), np.array([d.cost_usd for d in done])
        )

    def _margins(self, sweep: Sweep, known: Indices, test: Indices) -> list[tuple[float, Interval]]:
        seen = self.tables.outcomes.take(known)
        assert seen.cost_usd is not None, "a router is fitted on known costs only"
        margins = []
        for knob, quality, cost in zip(sweep.knob, sweep.quality, sweep.cost_usd, strict=True):
            utility = (seen.quality - knob * seen.cost_usd).mean(axis=0)
            rival = seen.candidates[int(utility.argmax())]
            gain = quality - knob * cost - self._utility(test, rival, float(knob))
            margins.append((float(knob), mean_interval(gain)))
        return margins

    def _router(self, winner: Contender, policy: Policy, known: Indices) -> SavedRouter:
        chain = policy.asks(winner.candidates)
        verifier = winner.verifier if policy.verifies else None
        estimator = winner.estimator
        costs = self.tables.outcomes.select(chain).take(known).cost_usd
        return SavedRouter(
            candidates=chain,
            policy=policy,
            estimator=None if estimator is None else self.tables.estimator(estimator, known),
            verifier=verifier,
            expected_cost_usd=mean_costs(chain, costs),
        )
