"""How a configuration is chosen: candidates in generations, judged on tuning seeds only.

Pure: what a candidate is worth, whether it goes on and which one wins are functions of the
reports of its trials, so a search that was interrupted is simply worked out again.

Bars that a candidate must reach rest on what was known when it began. No worker needs to know
what another one does at the same time, and so the same search goes the same way in one process,
on two cores, and on a cluster.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from rigorl.searches import Prune
from rigorl.spec import Budget, TaskSpec
from rigorl.trial import Failure, Report, Trial

Config = Mapping[str, Any]
State = Literal["finished", "pruned", "failed", "open"]


class Standing(NamedTuple):
    """What is known of a trial: its value at each rung, whether it finished, why it will not."""

    values: Mapping[int, float]
    finished: bool = False
    failure: Failure | None = None
    vector: tuple[float, ...] = ()
    """Each objective in the end, where a search has others than the score; see `objectives`."""


NEWBORN = Standing({})


class Outcome(NamedTuple):
    """One candidate, judged. `values[r]` is its mean over tuning seeds at rung r."""

    config: Config
    state: State
    values: Mapping[int, float]
    by_seed: tuple[float, ...] = ()
    """Value of each seed at the last rung that all have reached."""
    steps: int = 0
    """Environment steps made on all seeds together, as far as regular exams tell."""
    curves: tuple[Mapping[int, float], ...] = ()
    """Value of each seed at each rung."""
    vectors: tuple[tuple[float, ...], ...] = ()
    """Each objective on each seed in the end; empty where only the score is asked for."""

    @property
    def value(self) -> float:
        """What the candidate is worth: its value at its last rung."""
        return self.values[max(self.values)] if self.values else math.nan


def rungs(budget: Budget, stages: int) -> int:
    """Return the number of regular exams of a trial."""
    return stages * math.ceil(budget.steps / budget.exam_every)


def steps(budget: Budget, stages: int) -> list[int]:
    """Return the environment steps that a trial has made at each of its regular exams."""
    each = rungs(budget, 1)
    return [
        stage * budget.steps + min((rung + 1) * budget.exam_every, budget.steps)
        for stage in range(stages)
        for rung in range(each)
    ]


def value(trial: Trial, report: Report) -> float:
    """Return the mean score over the tasks begun so far; what a search maximises as a rule.

    A score is normalised where the task says in numbers what counts as 0 and 1. Scales that
    are measured are not used: they come from test seeds.
    """
    return mean(by_task(trial, report))


def by_task(trial: Trial, report: Report) -> list[float]:
    """Return the score on each of the tasks begun so far."""
    begun = {task.name: task for task in trial.tasks[: report.stage + 1]}
    scores: dict[str, list[float]] = {name: [] for name in begun}
    for score in report.scores:
        if score.task in begun:
            scores[score.task] += [returns[0] for returns in score.returns]
    return [_scaled(begun[task], mean(returns)) for task, returns in scores.items()]


def _scaled(task: TaskSpec, score: float) -> float:
    if isinstance(task.random, float) and isinstance(task.reference, float):
        return (score - task.random) / (task.reference - task.random)
    return score


def judge(
    config: Config,
    trials: Sequence[Trial],
    known: Mapping[str, Standing],
    bars: Mapping[int, float],
) -> Outcome:
    """Return what is known of the candidate *config*, whose trials are *trials*.

    What came after a bar that it missed does not count: it was let on by a later try.
    """
    standings = [known.get(trial.id, NEWBORN) for trial in trials]
    reached = set.intersection(*(set(standing.values) for standing in standings))
    values = {rung: mean([s.values[rung] for s in standings]) for rung in sorted(reached)}
    missed = next((r for r, v in values.items() if v < bars.get(r, -math.inf)), None)
    if missed is not None:
        values = {rung: v for rung, v in values.items() if rung <= missed}
        standings = [_until(missed, standing) for standing in standings]
    state: State = "open"
    if missed is not None:
        state = "pruned"
    elif any(standing.failure for standing in standings):
        state = "failed"
    elif all(standing.finished for standing in standings):
        state = "finished"
    by_seed = tuple(s.values[max(values)] for s in standings) if values else ()
    steps = sum(_steps(trial, s) for trial, s in zip(trials, standings, strict=True))
    curves = tuple(s.values for s in standings)
    vectors = tuple(s.vector for s in standings if s.vector)
    return Outcome(config, state, values, by_seed, steps, curves, vectors)


def _until(rung: int, standing: Standing) -> Standing:
    """Return *standing* as it was at *rung*."""
    return Standing({r: v for r, v in standing.values.items() if r <= rung})


def joined(first: Outcome, then: Outcome) -> Outcome:
    """Return what is known of a candidate on the seeds of both: the second ones came after."""
    curves = (*first.curves, *then.curves)
    reached = sorted(set.intersection(*map(set, curves)))
    values = {rung: mean([curve[rung] for curve in curves]) for rung in reached}
    by_seed = tuple(curve[reached[-1]] for curve in curves) if reached else ()
    steps, vectors = first.steps + then.steps, (*first.vectors, *then.vectors)
    return Outcome(then.config, then.state, values, by_seed, steps, curves, vectors)


def _steps(trial: Trial, standing: Standing) -> int:
    """Return the environment steps that *trial* made up to its last regular exam, or failure."""
    budget, failure = trial.budget, standing.failure
    reached = max(standing.values, default=-1)
    made = steps(budget, len(trial.tasks))[reached] if reached >= 0 else 0
    return max(made, failure.stage * budget.steps + failure.step) if failure else made


def mean(values: Sequence[float]) -> float:
    """Return the mean, rounded once: the same to the bit wherever it is taken."""
    return math.fsum(values) / len(values)


def bars(
    prune: Prune | None, curves: Sequence[Mapping[int, float]], rungs: int
) -> dict[int, float]:
    """Return what a candidate must reach at each rung, given *curves* of earlier ones.

    Who finished stands at every rung, who was pruned at those that it saw. No bar rests on
    fewer than two candidates, and none stands at the last rung: there is nothing left to save.
    """
    if prune is None or prune.kind == "racing":
        return {}
    limits: dict[int, float] = {}
    for rung in looks(prune, rungs):
        seen = [curve[rung] for curve in curves if rung in curve]
        if len(seen) >= 2:  # noqa: PLR2004
            best = max(1, math.ceil(prune.kept * len(seen)))
            limits[rung] = sorted(seen, reverse=True)[best - 1]
    return limits


def looks(prune: Prune, rungs: int) -> list[int]:
    """Return the rungs at which a candidate may be stopped: all after the grace, or ever fewer.

    asha: those that come `eta` times later each (Li et al., MLSys 2020), the last one excepted.
    """
    first = math.ceil(prune.grace * rungs)
    if prune.kind != "asha":
        return list(range(first, rungs - 1))
    steps, at = [], max(1, first)
    while at < rungs:
        steps.append(at - 1)
        at *= prune.eta
    return steps


def best(told: Sequence[Outcome]) -> Outcome | None:
    """Return the best candidate that finished, the earlier of equals; none if none did."""
    finished = [outcome for outcome in told if outcome.state == "finished"]
    return max(finished, key=lambda outcome: outcome.value, default=None)
