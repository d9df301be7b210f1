"""What a study will cost, found out by trying a little of it."""

import math
import os
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from rigorl import plan, search
from rigorl.contract import Crew
from rigorl.run import Run
from rigorl.spec import Experiment
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


class Cost(NamedTuple):
    """What one arm costs in one phase. With pruning, an upper bound."""

    arm: str
    phase: str
    trials: int
    steps: int
    exams: int
    disk_bytes: int
    core_s: float


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
    if not exams:
        run.examine()
    growth = max(0, _checkpoint_bytes(run) - newborn) / max(made, 1)
    exam = run.seconds["exam"] / max(exams, 1) * len(trial.tasks)
    run.close()
    return Speed(made / learned, exam, newborn, growth, size * len(trial.tasks))


def _checkpoint_bytes(run: Run) -> int:
    with tempfile.TemporaryDirectory() as folder:
        run.agent.save(Path(folder))
        return sum(path.stat().st_size for path in Path(folder).rglob("*"))


def wall_s(found: Sequence[Cost], spec: Experiment, at_once: int | None = None) -> float:
    """Return the seconds that *found* takes, so many trials *at_once*; infinity if none can be.

    If that is not said: on this machine, with all its cores. No trial ends before its time.
    """
    if at_once is None:
        at_once = max(1, math.floor((os.cpu_count() or 1) / spec.budget.cpus))
    if not at_once:
        return math.inf
    longest = max((cost.core_s / cost.trials for cost in found if cost.trials), default=0.0)
    return max(sum(cost.core_s for cost in found) / at_once, longest)


def _first(spec: Experiment, arm: str) -> Trial:
    if arm in spec.arms:
        return plan.trials(spec, arm, "test", {}, spec.seeds.test[:1])[0]
    return plan.random_trials(spec)[0]


def _cost(spec: Experiment, arm: str, phase: str, trials: int, speed: Speed) -> Cost:
    stages = 1 if phase == "scale" else len(spec.tasks)
    exams = search.rungs(spec.budget, stages) + len(spec.budget.dense) * (stages - 1)
    steps = stages * spec.budget.steps
    exam_s = speed.exam_s * stages / len(spec.tasks)
    checkpoint = speed.checkpoint_bytes + steps * speed.bytes_per_step
    return Cost(
        arm=arm,
        phase=phase,
        trials=trials,
        steps=trials * steps,
        exams=trials * exams * stages,
        disk_bytes=trials * (exams * speed.report_bytes + math.ceil(checkpoint)),
        core_s=trials * (steps / speed.steps_per_s + exams * exam_s),
    )
