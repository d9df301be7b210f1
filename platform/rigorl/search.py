"""How a configuration is chosen: candidates in generations, judged on tuning seeds only.

Pure: what a candidate is worth, whether it goes on and which one wins are functions of the
reports of its trials, so a search that was interrupted is simply worked out again.

Every candidate of a generation meets the same bars, which rest on earlier generations alone.
No worker needs to know what another one does at the same time, and so the same search goes
the same way in one process, on two cores, and on a cluster.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

from rigorl.spec import Budget, Prune, TaskSpec
from rigorl.trial import Failure, Report, Trial

Config = Mapping[str, Any]
State = Literal["finished", "pruned", "failed", "open"]


class Standing(NamedTuple):
    """What is known of a trial: its value at each rung, whether it finished, why it will not."""

    values: Mapping[int, float]
    finished: bool = False
    failure: Failure | None = None


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

    @property
    def value(self) -> float:
        """What the candidate is worth: its value at its last rung."""
        return self.values[max(self.values)] if self.values else math.nan


def rungs(budget: Budget, stages: int) -> int:
    """Return the number of regular exams of a trial."""
    return stages * math.ceil(budget.steps / budget.exam_every)


def value(trial: Trial, report: Report) -> float:
    """Return the mean score over the tasks begun so far; what a search maximises.

    A score is normalised where the task says in numbers what counts as 0 and 1. Scales that
    are measured are not used: they come from test seeds.
    """
    begun = {task.name: task for task in trial.tasks[: report.stage + 1]}
    scores: dict[str, list[float]] = {name: [] for name in begun}
    for score in report.scores:
        if score.task in begun:
            scores[score.task] += [returns[0] for returns in score.returns]
    return mean([_scaled(begun[task], mean(returns)) for task, returns in scores.items()])


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
    """Return what is known of the candidate *config*, whose trials are *trials*."""
    standings = [known.get(trial.id, NEWBORN) for trial in trials]
    reached = set.intersection(*(set(standing.values) for standing in standings))
    values = {rung: mean([s.values[rung] for s in standings]) for rung in sorted(reached)}
    state: State = "open"
    if any(standing.failure for standing in standings):
        state = "failed"
    elif any(v < bars.get(r, -math.inf) for r, v in values.items()):
        state = "pruned"
    elif all(standing.finished for standing in standings):
        state = "finished"
    by_seed = tuple(s.values[max(values)] for s in standings) if values else ()
    steps = sum(_steps(trial, s) for trial, s in zip(trials, standings, strict=True))
    return Outcome(config, state, values, by_seed, steps)


def _steps(trial: Trial, standing: Standing) -> int:
    """Return the environment steps that *trial* made up to its last regular exam, or failure."""
    budget, failure = trial.budget, standing.failure
    each = rungs(budget, 1)
    stage, rung = divmod(max(standing.values, default=-1), each)
    made = stage * budget.steps + min((rung + 1) * budget.exam_every, budget.steps)
    return max(made, failure.stage * budget.steps + failure.step) if failure else made


def mean(values: Sequence[float]) -> float:
    """Return the mean, rounded once: the same to the bit wherever it is taken."""
    return math.fsum(values) / len(values)


def bars(prune: Prune | None, told: Sequence[Outcome], last_rung: int) -> dict[int, float]:
    """Return what a candidate must reach at each rung, given the earlier generations.

    Who finished stands at every rung, who was pruned at those that it saw. No bar rests on
    fewer than two candidates, and none stands at the last rung: there is nothing left to save.
    """
    if prune is None:
        return {}
    first = math.ceil(prune.grace * (last_rung + 1))
    bars: dict[int, float] = {}
    for rung in range(first, last_rung):
        seen = [o.values[rung] for o in told if o.state != "failed" and rung in o.values]
        if len(seen) >= 2:  # noqa: PLR2004
            best = max(1, math.ceil(prune.keep * len(seen)))
            bars[rung] = sorted(seen, reverse=True)[best - 1]
    return bars


def best(told: Sequence[Outcome]) -> Outcome | None:
    """Return the best candidate that finished, the earlier of equals; none if none did."""
    finished = [outcome for outcome in told if outcome.state == "finished"]
    return max(finished, key=lambda outcome: outcome.value, default=None)
