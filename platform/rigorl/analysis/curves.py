"""The reports of a trial as arrays, and the final scores of an arm as a matrix."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rigorl.analysis import continual, gap
from rigorl.errors import IncompleteResults
from rigorl.spec import TaskSpec
from rigorl.trial import Report, Trial

Array = NDArray[np.float64]
Counts = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Curve:
    """What one trial could do on each task at each of its exams, in their order.

    `scores_TN` are raw returns, the mean over episodes of the first objective, and over
    policies if there are several; NaN where a task was not examined. `zero_T` and `one_T` are
    the returns that count as 0 and 1: those that the tasks give in numbers, else 0 and 1
    themselves, which leaves returns raw.
    """

    tasks: tuple[str, ...]
    stage_N: Counts
    step_N: Counts
    """Environment steps since the stage began."""
    update_N: Counts
    """Optimiser steps since birth."""
    total_step_N: Counts
    """Environment steps since birth."""
    regular_N: NDArray[np.bool_]
    """Whether an exam was a rung, and not a dense one between two."""
    scores_TN: Array
    learned_at_T: Counts
    """The last exam of each task's own stage, so far; -1 for tasks not begun."""
    zero_T: Array
    one_T: Array

    @classmethod
    def of(cls, trial: Trial, reports: Sequence[Report]) -> Self:
        """Return the curve that *reports*, in the order of their making, draw."""
        if not reports:
            raise IncompleteResults(
                f"a curve needs a report, but trial {trial.id} (arm {trial.arm!r}, seed "
                f"{trial.seed}) has none; run the experiment again to play it"
            )
        stage_N = np.array([report.stage for report in reports])
        step_N = np.array([report.step for report in reports])
        names = tuple(task.name for task in trial.tasks)
        scales = [_given(task) for task in trial.tasks]
        return cls(
            tasks=names,
            stage_N=stage_N,
            step_N=step_N,
            update_N=np.array([report.update for report in reports]),
            total_step_N=stage_N * trial.budget.steps + step_N,
            regular_N=np.array([report.rung is not None for report in reports]),
            scores_TN=np.array([_scores(report, names) for report in reports]).T,
            learned_at_T=_learned_at(stage_N, len(names)),
            zero_T=np.array([zero for zero, _ in scales]),
            one_T=np.array([one for _, one in scales]),
        )

    def scaled(self, scales: Mapping[str, tuple[float, float]]) -> Self:
        """Return the same curve with other (random, reference) returns for some tasks."""
        pairs = zip(self.tasks, self.zero_T, self.one_T, strict=True)
        zero_one = np.array([scales.get(task, (zero, one)) for task, zero, one in pairs])
        return replace(self, zero_T=zero_one[:, 0], one_T=zero_one[:, 1])

    def upto(self, count: int) -> Self:
        """Return the curve as it was after its first *count* exams."""
        return replace(
            self,
            stage_N=self.stage_N[:count],
            step_N=self.step_N[:count],
            update_N=self.update_N[:count],
            total_step_N=self.total_step_N[:count],
            regular_N=self.regular_N[:count],
            scores_TN=self.scores_TN[:, :count],
            learned_at_T=_learned_at(self.stage_N[:count], len(self.tasks)),
        )

    @property
    def normalised_TN(self) -> Array:  # noqa: N802
        """Scores on the scale of each task, before its stage began too."""
        return normalise(self.scores_TN, self.zero_T[:, None], self.one_T[:, None])

    @property
    def begun_TN(self) -> Array:  # noqa: N802
        """The same with NaN before a task's own stage begins: what `continual` asks for."""
        return self._begun(self.normalised_TN)

    @property
    def clocks(self) -> gap.Clocks:
        """When exams were taken, in updates and in environment steps."""
        return gap.Clocks(self.update_N, self.total_step_N)

    def continual(self, windows: Sequence[int]) -> dict[str, float]:
        """Return the measures of `continual` and `gap` of normalised scores at the latest exam."""
        begun_TN, learned_at_T = self.begun_TN, self.learned_at_T
        return {
            **continual.summary(begun_TN, learned_at_T, windows, self.update_N),
            **gap.summary(begun_TN, learned_at_T, self.clocks),
        }

    def by_task(self, windows: Sequence[int]) -> list[dict[str, float]]:
        """Return `gap.by_task` of raw returns at the latest exam."""
        return gap.by_task(self._begun(self.scores_TN), self.learned_at_T, windows, self.clocks)

    def window_spans(self, window: int) -> Array:
        """Return the updates that each full window of so many exams took."""
        return gap.window_spans(self._begun(self.scores_TN), self.update_N, window)

    def _begun(self, scores_TN: Array) -> Array:
        row_T1 = np.arange(len(self.tasks))[:, None]
        return np.where(self.stage_N < row_T1, np.nan, scores_TN)


def normalise(
    scores: Array, random: Array | float, reference: Array | float
) -> NDArray[np.float64]:
    """Return (scores - random) / (reference - random), never clipped: 1.2 is better than 1."""
    normalised: Array = (scores - random) / (np.asarray(reference) - random)
    return normalised


def summary(curve: Curve) -> dict[str, float]:
    """Return what a whole curve comes to: on each task the final, the best and the mean score.

    All are raw returns. `final/` is the score at the last exam, `best/` the highest one, and
    `auc/` the area under the scores over all steps since birth, divided by the steps that it
    spans. What is undefined (a task that was not examined then, or never) is left out.
    """
    found: dict[str, float] = {}
    for task, score_N in zip(curve.tasks, curve.scores_TN, strict=True):
        seen_N = np.isfinite(score_N)
        if seen_N[-1]:
            found[f"final/{task}"] = float(score_N[-1])
        if seen_N.any():
            found[f"best/{task}"] = float(score_N[seen_N].max())
            found[f"auc/{task}"] = mean_over_steps(score_N[seen_N], curve.total_step_N[seen_N])
    return found


def mean_over_steps(score_N: Array, step_N: Counts) -> float:
    """Return the area under finite scores (trapezoids), divided by last step - first step.

    Exams that span no steps leave the mean of their scores.
    """
    span = int(step_N[-1] - step_N[0])
    return float(np.trapezoid(score_N, step_N) / span) if span else float(score_N.mean())


def means(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each number that all of *found* have: none is over what is missing."""
    shared = [name for name in found[0] if all(name in one for one in found)] if found else []
    return {name: float(np.mean([one[name] for one in found])) for name in shared}


def last(trial: Trial, reports: Mapping[str, Sequence[Report]]) -> Report | None:
    """Return the report with which *trial* finished; None if it did not."""
    told = reports.get(trial.id, ())
    return told[-1] if told and told[-1].finished else None


def final_ST(  # noqa: N802
    trials: Sequence[Trial], reports: Mapping[str, Sequence[Report]]
) -> Array:
    """Return raw final scores, a row a trial, a column a task, both in the order given.

    A hole raises `IncompleteResults`: nothing is averaged over what is missing.
    """
    rows = []
    for trial in trials:
        report = last(trial, reports)
        names = [task.name for task in trial.tasks]
        row = _scores(report, names) if report else [np.nan] * len(names)
        holes = [name for name, score in zip(names, row, strict=True) if np.isnan(score)]
        if holes:
            raise IncompleteResults(
                f"every seed must end with an exam on every task, but arm {trial.arm!r} lacks "
                f"{', '.join(holes)} for seed {trial.seed}; "
                "run the experiment again to fill the holes"
            )
        rows.append(row)
    return np.array(rows)


def _scores(report: Report, tasks: Sequence[str]) -> list[float]:
    """Return the mean over policies of their mean first objective, task by task."""
    earned: dict[str, list[float]] = {task: [] for task in tasks}
    for score in report.scores:
        if score.task in earned and score.returns:
            returns = [objectives[0] for objectives in score.returns]
            earned[score.task].append(float(np.mean(returns)))
    return [float(np.mean(means)) if means else np.nan for means in earned.values()]


def _learned_at(stage_N: Counts, tasks: int) -> Counts:
    last_T = [np.flatnonzero(stage_N == task)[-1:] for task in range(tasks)]
    return np.array([int(place[0]) if len(place) else -1 for place in last_T])


def _given(task: TaskSpec) -> tuple[float, float]:
    if isinstance(task.random, int | float) and isinstance(task.reference, int | float):
        return float(task.random), float(task.reference)
    return 0.0, 1.0
