"""The contest that compares all contenders, and calibrates and tests the winner."""

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
    """A target in words, with the confidence of its guarantee, if any."""

    target: str
    confidence: float | None = None


@dataclass(frozen=True)
class Parts:
    """Disjoint sets of row indices, each in random order."""

    train: Indices
    pick: Indices
    calibrate: Indices | None
    test: Indices

    @property
    def fit_rows(self) -> Indices:
        """Rows that may train the winner once it is picked."""
        return np.concatenate([self.train, self.pick])

    @property
    def used(self) -> Indices:
        """All rows that had a part in the router: every row except the test rows."""
        rows = [self.fit_rows] if self.calibrate is None else [self.fit_rows, self.calibrate]
        return np.concatenate(rows)

    @property
    def sizes(self) -> dict[str, int]:
        """Number of rows for each purpose."""
        jobs = {
            "training": self.train,
            "picking": self.pick,
            "calibrating": self.calibrate,
            "testing": self.test,
        }
        return {job: len(rows) for job, rows in jobs.items() if rows is not None}


_Entry = tuple[Standing, Contender]


@dataclass(frozen=True)
class Contest:
    """A comparison of all contenders by their utility at one λ, or by a target.

    Args:
        tables: The data, all rows.
        lambda_: λ in quality per dollar, by which contenders are ranked.
        scale: λ at which the cheapest and the best candidate have equal utility; the values of λ
            to try are around it.
        watch: Callback that receives the progress.
    """

    tables: Tables
    lambda_: float
    scale: float
    watch: Watch | None = None

    def run(self, parts: Parts, goal: Goal | None) -> Fitted:
        """Compare all contenders, calibrate the winner to the target if there is one, and test it.

        Raises:
            CalibrationError: If no contender meets the target.
        """
        entries: list[_Entry] = []
        left_out: dict[str, str] = {}
        baseline = self.best_single(parts.fit_rows, goal)
        entered = list(contenders(self.tables))
        progress = Progress(self.watch, len(entered) + (1 if goal is None else 2))
        for contender in entered:
            progress.begin(contender.name)
            try:
                entries.append((self._evaluate(contender, parts, goal, baseline), contender))
            except (ValueError, CalibrationError) as error:
                left_out[contender.name] = str(error)
        if len(entries) == 0:
            raise CalibrationError(f"No contender can be used: {next(iter(left_out.values()))}")
        entries.sort(key=lambda entry: self._rank(entry[0], goal))
        if goal is None:
            winner, found = entries[0][1], None
            fit_rows = parts.fit_rows
            policy = winner.train(fit_rows)(self.lambda_)
        else:
            progress.begin("calibrating the winner to the target")
            winner, policy, found, fit_rows = self._calibrate_winner(entries, parts, goal)
        progress.begin(f"testing {winner.name}")
        return self._test_winner(
            winner,
            policy,
            fit_rows,
            parts,
            baseline,
            entries=entries,
            left_out=left_out,
            found=found,
        )

    # Comparing

    def _evaluate(
        self, contender: Contender, parts: Parts, goal: Goal | None, baseline: str
    ) -> Standing:
        if goal is None:
            policy = contender.train(parts.train)(self.lambda_)
            done = contender.replay_policy(policy, self.tables, parts.train, parts.pick)
            quality, cost = float(done.quality.mean()), float(done.cost_usd.mean())
            knob = self.lambda_
        else:
            if goal.confidence is not None and baseline not in contender.candidates:
                msg = f"it cannot ask {baseline}, the best single model, which a guarantee requires"
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
            assert found.cost_usd is not None, "_trials refuses unknown costs"
            quality, cost, knob = found.quality.value, found.cost_usd.value, found.knob
        return Standing(contender.name, quality - self.lambda_ * cost, quality, cost, knob)

    def _rank(self, standing: Standing, goal: Goal | None) -> tuple[float, float]:
        """Sort key, lowest first: by the criterion, then by the lower cost or higher quality."""
        if goal is None:
            return -standing.utility, standing.cost_usd
        if Target.parse(goal.target).metric == "quality":
            return standing.cost_usd, -standing.quality
        return -standing.quality, standing.cost_usd

    def _trials(
        self, contender: Contender, family: Family, fit_rows: Indices, rows: Indices, n: int
    ) -> Trials:
        """Replay the family at every λ, with all candidates as the single models."""
        quality, outcomes, evaluations, costs = contender.replay_tables(self.tables, fit_rows, rows)
        table = self.tables.outcomes.take(rows)
        trials = try_all(
            family,
            [0.0, *np.geomspace(self.scale / _TRIED_SPAN, self.scale * _TRIED_SPAN, n)],
            outcomes,
            quality=quality,
            evaluations=evaluations,
            expected_cost_usd=costs,
        )
        if np.isnan(trials.cost_usd).any():
            msg = "the verification cost of some answers is unknown"
            raise ValueError(msg)
        strong = trials.strong
        if contender.candidates[-1] != table.candidates[-1]:
            strong = np.zeros_like(strong)
        assert table.cost_usd is not None, "fit_router requires every cost"
        return replace(
            trials,
            strong=strong,
            single_quality=table.quality,
            single_cost_usd=table.cost_usd,
        )

    # Calibrating

    def _calibrate_winner(
        self, entries: Iterable[_Entry], parts: Parts, goal: Goal
    ) -> tuple[Contender, Policy, Calibrated, Indices]:
        """Set the winner's λ on rows that were not used to pick it.

        With a confidence only the first contender is tried, because trying contenders until one
        passes would weaken the guarantee. Without one, the next contenders are tried as well.
        """
        assert parts.calibrate is not None, "there is a target"
        first: CalibrationError | None = None
        for _, contender in entries:
            try:
                return contender, *self._calibrate(contender, parts, goal)
            except CalibrationError as error:
                if goal.confidence is not None:
                    raise
                first = first or error
        assert first is not None, "there are contenders"
        raise first

    def _calibrate(
        self, contender: Contender, parts: Parts, goal: Goal
    ) -> tuple[Policy, Calibrated, Indices]:
        assert parts.calibrate is not None, "there is a target"
        if goal.confidence is None:
            # λ is chosen on the calibration rows and checked on the test rows.
            fit_rows, chosen, checked = parts.fit_rows, parts.calibrate, parts.test
        else:
            # The picking rows order the settings; the calibration rows test them.
            fit_rows, chosen, checked = parts.train, parts.pick, parts.calibrate
        family = contender.train(fit_rows)
        both = np.concatenate([chosen, checked])
        trials = self._trials(contender, family, fit_rows, both, _N_LAMBDAS_CALIBRATED)
        split = np.arange(len(chosen)), np.arange(len(chosen), len(both))
        found = meet_target(trials, goal.target, confidence=goal.confidence, split=split)
        return family(found.knob), found, fit_rows

    # Testing

    def best_single(self, rows: Indices, goal: Goal | None) -> str:
        """Return the name of the best single model on these rows."""
        table = self.tables.outcomes.take(rows)
        assert table.cost_usd is not None, "fit_router requires every cost"
        if goal is not None:
            return table.candidates[best_single(table)]
        utility = (table.quality - self.lambda_ * table.cost_usd).mean(axis=0)
        # With the default λ the cheapest and the best model have equal utility: take the best.
        close = np.flatnonzero(utility >= utility.max() - 1e-9)
        best = max(close, key=lambda j: table.quality[:, j].mean())
        return table.candidates[int(best)]

    def _test_winner(
        self,
        winner: Contender,
        policy: Policy,
        fit_rows: Indices,
        parts: Parts,
        baseline: str,
        *,
        entries: list[_Entry],
        left_out: dict[str, str],
        found: Calibrated | None,
    ) -> Fitted:
        test = self.tables.outcomes.take(parts.test)
        done = winner.replay_policy(policy, self.tables, fit_rows, parts.test)
        gain = done.quality - self.lambda_ * done.cost_usd - self._utility(parts.test, baseline)
        sweep = self._sweep(winner, fit_rows, parts.test)
        standings = [standing for standing, _ in entries]
        winning = next(standing for standing, contender in entries if contender is winner)
        standings.remove(winning)
        return Fitted(
            router=self._router(winner, policy, fit_rows).taught_by(
                self.tables.outcomes.take(parts.used).queries
            ),
            lambda_=self.lambda_,
            standings=(winning, *standings),
            left_out=left_out,
            calibrated=found,
            n_rows=parts.sizes,
            test=test,
            replay=done,
            single=baseline,
            gain=mean_interval(gain),
            sweep=sweep,
            margins=self._margins(sweep, fit_rows, parts.test),
        )

    def _utility(self, rows: Indices, name: str, lambda_: float | None = None) -> Floats:
        alone = self.tables.outcomes.take(rows).select([name])
        assert alone.cost_usd is not None, "fit_router requires every cost"
        rate = self.lambda_ if lambda_ is None else lambda_
        values: Floats = alone.quality[:, 0] - rate * alone.cost_usd[:, 0]
        return values

    def _sweep(self, winner: Contender, fit_rows: Indices, test: Indices) -> Sweep:
        knobs = np.geomspace(self.scale / _SHOWN_SPAN, self.scale * _SHOWN_SPAN, _N_LAMBDAS_SHOWN)
        family = winner.train(fit_rows)
        done = [winner.replay_policy(family(float(k)), self.tables, fit_rows, test) for k in knobs]
        return Sweep(
            knobs, np.array([d.quality for d in done]), np.array([d.cost_usd for d in done])
        )

    def _margins(
        self, sweep: Sweep, fit_rows: Indices, test: Indices
    ) -> list[tuple[float, Interval]]:
        table = self.tables.outcomes.take(fit_rows)
        assert table.cost_usd is not None, "fit_router requires every cost"
        margins = []
        for knob, quality, cost in zip(sweep.knob, sweep.quality, sweep.cost_usd, strict=True):
            utility = (table.quality - knob * table.cost_usd).mean(axis=0)
            baseline = table.candidates[int(utility.argmax())]
            gain = quality - knob * cost - self._utility(test, baseline, float(knob))
            margins.append((float(knob), mean_interval(gain)))
        return margins

    def _router(self, winner: Contender, policy: Policy, fit_rows: Indices) -> SavedRouter:
        chain = policy.asks(winner.candidates)
        verifier = winner.verifier if policy.verifies else None
        estimator = winner.estimator
        costs = self.tables.outcomes.select(chain).take(fit_rows).cost_usd
        return SavedRouter(
            candidates=chain,
            policy=policy,
            estimator=None if estimator is None else self.tables.estimator(estimator, fit_rows),
            verifier=verifier,
            expected_cost_usd=mean_costs(chain, costs),
        )
