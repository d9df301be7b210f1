"""A study of two arms that others attack, with made-up reports: what they come to is known."""

from collections.abc import Mapping, Sequence
from typing import Any

from conftest import TINY, tiny
from rigorl import plan
from rigorl.analysis.verdict import Verdict, judge
from rigorl.spec import Experiment
from rigorl.trial import Report, Score, Trial

PORT = {"limit": 1.0, "best": 1.0}
TASK = {**TINY["tasks"][0], "name": "half", "random": 0, "reference": 10, "port": PORT}
HINF = {"name": "hinf", "config": {"eta": 6.0}}
ARMS: dict[str, Any] = {
    "a": {"agent": HINF},
    "b": {"agent": {"name": "ppo"}},
    "fresh-a": {"after": "a", "agent": {"name": "attacker"}},
    "fresh-b": {"after": "b", "agent": {"name": "attacker"}},
    "grid-a": {"after": "a", "agent": {"name": "pushed"}},
}
Row = tuple[float, float, float, float]
"""Return, share that fell, cost, force. Energy is force^2."""
FRESH: dict[str, Row] = {
    "nominal": (10, 0.0, 1, 0),
    "attack-0@0.50": (8, 0.5, 2, 0.5),
    "attack-1@0.50": (9, 0.25, 3, 0.5),  # costs more, though it leaves more
    "attack-0@1.00": (4, 1.0, 6, 2),
    "attack-1@1.00": (5, 0.5, 5, 1),  # costs less, but more for its force
}
GRID: dict[str, Row] = {
    "nominal": (10, 0.0, 1, 0),
    **{
        f"push:{body}:{s}:{way}:{n}": (10 - n * float(s), float(s), n, 1)
        for body in ("foot", "torso")
        for s in ("0.50", "1.00")
        for way in ("000", "180", "up")
        for n in (1, 2)
    },
    "sinus:torso:0.50:000:8": (9, 0, 8, 2),
    "sinus:torso:1.00:000:8": (9, 0, 4, 4),
    "sinus:torso:0.50:000:32": (9, 0, 4, 2),
}


def siege(**changes: Any) -> Experiment:
    return tiny(**{"arms": ARMS, "tasks": [TASK], "seeds": {"test": [0, 1, 2]}, **changes})


def trials(spec: Experiment) -> list[Trial]:
    return [t for arm in spec.arms for t in plan.trials(spec, arm, "test", {}, spec.seeds.test)]


def rows(trial: Trial) -> Mapping[str, Row]:
    """Return what a trial is to say; the policies of b earn one less, and each seed a tenth more.

    An arm that nobody pushes has a policy of its own.
    """
    luck = trial.seed / 10 - (trial.arm in {"b", "fresh-b"})
    found = {"fresh": FRESH, "grid": GRID}.get(trial.arm.split("-")[0], {"own": FRESH["nominal"]})
    return {name: (earned + luck, *rest) for name, (earned, *rest) in found.items()}  # type: ignore[misc]


def report(trial: Trial, told: Mapping[str, Row], stage: int = 0, **metrics: float) -> Report:
    """Return the one with which a stage ends, of a world in which all tasks are alike."""
    for name, (_, fell, cost, force) in told.items():
        parts = {"fell": fell, "cost": cost, "force": force, "energy": force * force}
        for task in trial.tasks:
            metrics |= {f"{part}/{task.name}/{name}": x for part, x in parts.items()}
    return Report(
        trial=trial.id,
        stage=stage,
        step=trial.budget.steps,
        update=1 + stage,
        rung=stage,
        stage_ended=True,
        finished=stage == len(trial.tasks) - 1,
        metrics=metrics,
        scores=tuple(
            Score(task.name, name, ((row[0] - 1,), (row[0] + 1,)))
            for task in trial.tasks
            for name, row in told.items()
        ),
    )


def judged(spec: Experiment, reports: Mapping[str, Sequence[Report]]) -> Verdict:
    return judge(spec, {arm: {} for arm in spec.arms}, trials(spec), reports, {})


def verdict(spec: Experiment) -> Verdict:
    return judged(spec, {t.id: [report(t, rows(t))] for t in trials(spec)})
