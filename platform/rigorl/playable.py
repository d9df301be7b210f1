"""Whether an experiment can be played: found out by trying, before anything is."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from rigorl import contract
from rigorl.errors import SpecError
from rigorl.schedules import at
from rigorl.search import rungs
from rigorl.space import Choice, merged
from rigorl.spec import WINDOWS, AgentSpec, Arm, Experiment
from rigorl.tasks.envs import rewards, try_out, world_spec


def check(spec: Experiment) -> list[str]:
    """Refuse what cannot be played, before anything is; return remarks about what can.

    Plays a step of each task, makes every arm's agent once, and tries the corners of every
    search space.
    """
    remarks = []
    _check_windows(spec)
    world = world_spec(spec.tasks, spec.budget.num_envs)
    world = replace(world, gpus=spec.budget.gpus, crew=spec.placement.crew.size)
    try_out(spec.tasks)
    for name, arm in spec.arms.items():
        there = f"$.arms.{name}"
        try:
            contract.configure(arm.agent)
            contract.make(arm.agent, replace(world, given=arm.after is not None), seed=0)
        except SpecError as error:
            raise error.below(f"{there}.agent") from error
        _check_rewards(spec, arm, f"{there}.search.reference_point")
        for config, where in _corners(arm):
            try:
                contract.configure(
                    AgentSpec(name=arm.agent.name, config=merged(arm.agent.config, config))
                )
            except SpecError as error:
                raise SpecError(error.message, f"{there}.search.space.{where}") from error
        _check_flight(arm, there)
        if "." in arm.agent.name:
            remarks.append(f"arm {name!r} imports and runs the module {arm.agent.name}")
    return remarks


def _check_windows(spec: Experiment) -> None:
    """Refuse windows that somebody asked for and no trial will fill."""
    exams = rungs(spec.budget, len(spec.tasks)) + (len(spec.tasks) - 1) * len(spec.budget.dense)
    for i, window in enumerate(spec.windows if spec.windows != WINDOWS else ()):
        if len(spec.tasks) == 1:
            raise SpecError(
                "windows must be of several tasks, for they measure forgetting, but there is one, "
                f"{spec.tasks[0].name!r}; drop them, or add a task",
                "$.windows",
            )
        if window > exams:
            raise SpecError(
                f"windows must be no longer than a trial, but this one holds {window} exams and a "
                f"trial has {exams}; lower it, or examine more often (`budget.exam_every`, "
                "`budget.dense`)",
                f"$.windows[{i}]",
            )


def _check_rewards(spec: Experiment, arm: Arm, at: str) -> None:
    """Refuse a hypervolume that is not of what the tasks reward."""
    for measure in arm.search.measures if arm.search else ():
        if measure.objective == "hypervolume":
            for task in spec.tasks:
                try:
                    measure.check(rewards(task), task.name)
                except SpecError as error:
                    raise SpecError(error.message, at) from error


def _check_flight(arm: Arm, there: str) -> None:
    """Refuse to change, while an agent learns, what cannot change then."""
    agent, space = arm.agent, arm.search.space if arm.search and arm.search.is_population else {}
    asked = [(name, f"{there}.search.space.{name}") for name in space]
    changes = [(f"{there}.agent.schedule[{i}]", *part) for i, part in enumerate(agent.schedule)]
    asked += [(name, where) for where, _, change in changes for name in change]
    safe: frozenset[str] = getattr(contract.find(agent.name), "IN_FLIGHT", frozenset())
    for name, where in asked:
        if name not in safe:
            raise SpecError(
                f"what changes in flight must be what the agent can change then, but {name} of "
                f"{agent.name} is not; it can change {', '.join(sorted(safe)) or 'nothing'}",
                where,
            )
    for where, step, _ in changes:
        try:
            settings = at(agent.config, agent.schedule, step)
            contract.configure(AgentSpec(name=agent.name, config=settings))
        except SpecError as error:
            raise SpecError(error.message, where) from error


def _corners(arm: Arm) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield, for each dimension of the search, its ends, and where it stands."""
    for name, over in (arm.search.space if arm.search else {}).items():
        for end in over.of if isinstance(over, Choice) else (over.low, over.high):
            yield {name: end}, name
