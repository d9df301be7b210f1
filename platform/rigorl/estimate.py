"""What a study will cost, found out by trying a little of it."""

import heapq
import math
import os
import tempfile
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from rigorl import plan, search
from rigorl.contract import Crew
from rigorl.run import Run
from rigorl.spec import Budget, Experiment
from rigorl.tasks.exam import examine, order
from rigorl.trial import Report, Trial

TASTE = 2.0
"""Seconds of learning that are tried for each arm."""


class Speed(NamedTuple):
    """What one trial of an arm was seen to need on this machine."""

    steps_per_s: float
    exam_s: float
    """Seconds of an exam on all tasks. Policies that live longer take longer."""
    checkpoint_bytes: int
    """Of a newborn agent."""
    bytes_per_step: float
    """By which a checkpoint grows while an agent lives, as with a replay."""
    report_bytes: int
    updates_per_step: float


class Cost(NamedTuple):
    """What one arm costs in one phase. With pruning, an upper bound."""

    arm: str
    phase: str
    trials: int
    steps: int
    exams: int
    disk_bytes: int
    core_s: float
    trial_s: float
    """Seconds from the beginning of a trial to its end, with its crew beside it."""
    wait_s: float
    """How many of them the learner waits for exams."""
    crew_load: float
    """Work of exams in a second of learning, for each member of the crew that takes them; above
    1 the learner waits."""


def costs(spec: Experiment, crew: Crew) -> list[Cost]:
    """Return the cost of each arm and phase of *spec*, from a taste of each arm.

    An arm that builds on another one cannot be tasted alone; it counts as that one.
    """
    speeds: dict[str, Speed] = {}
    found: list[Cost] = []
    for (arm, phase), trials in plan.counts(spec).items():
        known = arm
        while known in spec.arms and (after := spec.arms[known].after):
            known = after
        if known not in speeds:
            speeds[known] = taste(_first(spec, known), crew)
        found.append(_cost(spec, arm, phase, trials, speeds[known]))
    return found


def taste(trial: Trial, crew: Crew) -> Speed:
    """Learn for a moment, take one exam and write one checkpoint, in a folder that goes away."""
    steps = trial.budget.steps
    short = msgspec.structs.replace(trial, tasks=trial.tasks[:1])
    run = Run(short, crew)
    newborn = _checkpoint_bytes(run)
    size, start = 0, time.monotonic()
    exams = 0
    for event in run:
        exams += isinstance(event, Report)
        size = max(size, len(msgspec.msgpack.encode(event)))
        if time.monotonic() - start > TASTE + run.seconds["exam"]:
            break
    made = run.place.step if not run.finished else steps
    learned = max(run.seconds["learn"], 1e-9)
    spent = run.seconds["exam"] / exams if exams else _examine(run)
    growth = max(0, _checkpoint_bytes(run) - newborn) / max(made, 1)
    exam = spent * len(trial.tasks)
    run.close()
    return Speed(
        steps_per_s=made / learned,
        exam_s=exam,
        checkpoint_bytes=newborn,
        bytes_per_step=growth,
        report_bytes=size * len(trial.tasks),
        updates_per_step=run.place.update / max(made, 1),
    )


def _examine(run: Run) -> float:
    """Return the seconds that an exam on the first task takes."""
    trial, start = run.trial, time.perf_counter()
    for policy in run.agent.policies().values():
        examine(order(trial.tasks[0], policy, trial.budget, trial.seed))
    return time.perf_counter() - start


def _checkpoint_bytes(run: Run) -> int:
    with tempfile.TemporaryDirectory() as folder:
        run.agent.save(Path(folder))
        return sum(path.stat().st_size for path in Path(folder).rglob("*"))


def wall_s(found: Sequence[Cost], spec: Experiment, at_once: int | None = None) -> float:
    """Return the seconds that *found* takes, so many trials *at_once*; infinity if none can be.

    If that is not said: on this machine, with all its cores. No trial ends before its time.
    """
    if at_once is None:
        asked = sum(process.cpus for process in spec.needs)
        at_once = max(1, math.floor((os.cpu_count() or 1) / asked))
    if not at_once:
        return math.inf
    longest = max((cost.trial_s for cost in found if cost.trials), default=0.0)
    return max(sum(cost.trials * cost.trial_s for cost in found) / at_once, longest)


def waiting_s(
    moments_s: Sequence[float], item_s: float, items: int, crew: int, backlog: int
) -> float:
    """Return how long a learner waits for exams, taken after *moments_s* of learning.

    Each is of so many *items*, which *crew* members take in order; the learner is at most
    *backlog* exams ahead, and waits for all at the end, which is the last moment.
    """
    if crew == 0:
        return len(moments_s) * items * item_s
    free, done, waited = [0.0] * crew, deque([0.0] * backlog), 0.0
    for moment in moments_s:
        now = moment + waited
        for _ in range(items):
            heapq.heapreplace(free, max(free[0], now) + item_s)
        done.append(max(done[-1], *free))
        waited += max(0.0, done.popleft() - now)
    return max(waited, done[-1] - moments_s[-1])


def _first(spec: Experiment, arm: str) -> Trial:
    if arm in spec.arms:
        return plan.trials(spec, arm, "test", {}, spec.seeds.test[:1])[0]
    return plan.random_trials(spec)[0]


def _cost(spec: Experiment, arm: str, phase: str, trials: int, speed: Speed) -> Cost:
    stages = 1 if phase == "scale" else len(spec.tasks)
    moments = _moments(spec.budget, stages, speed)
    exams, crew = len(moments), spec.exam.crew
    steps = stages * spec.budget.steps
    item_s = speed.exam_s / len(spec.tasks)
    learn_s = steps / speed.steps_per_s
    wait_s = waiting_s(moments, item_s, stages, crew, spec.exam.backlog)
    checkpoint = speed.checkpoint_bytes + steps * speed.bytes_per_step
    return Cost(
        arm=arm,
        phase=phase,
        trials=trials,
        steps=trials * steps,
        exams=trials * exams * stages,
        disk_bytes=trials * (exams * speed.report_bytes + math.ceil(checkpoint)),
        core_s=trials * (learn_s + exams * stages * item_s),
        trial_s=learn_s + wait_s,
        wait_s=wait_s,
        crew_load=exams * stages * item_s / learn_s / crew if crew else 0.0,
    )


def _moments(budget: Budget, stages: int, speed: Speed) -> list[float]:
    """Return after how many seconds of learning each exam of a trial is taken."""
    count = search.rungs(budget, 1)
    regular = [min(n * budget.exam_every, budget.steps) for n in range(1, count)] + [budget.steps]
    dense = [after / max(speed.updates_per_step, 1e-12) for after in budget.dense]
    steps = [
        stage * budget.steps + step
        for stage in range(stages)
        for step in sorted(regular + ([d for d in dense if d < budget.steps] if stage else []))
    ]
    return [step / speed.steps_per_s for step in steps]
