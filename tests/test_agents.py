"""The contract, held against every file in rigorl/agents: by name, and by the YAML it ships."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from rigorl import contract, plan
from rigorl.contract import Agent, Span, configure
from rigorl.errors import SpecError, UnknownAgent
from rigorl.outside import yaml_file
from rigorl.outside.in_process import Alone
from rigorl.run import play
from rigorl.spec import AgentSpec, Experiment
from rigorl.tasks.envs import open_world, world_spec
from rigorl.tasks.world import World
from rigorl.trial import Bundle, Report, Trial

ROOT = Path(__file__).parents[1]
NAMES = contract.house_agents()
every_agent = pytest.mark.parametrize("name", NAMES)


def shipped(name: str) -> Experiment:
    return yaml_file.read(ROOT / "experiments" / "agents" / f"{name}.yaml")


def trials(name: str) -> list[Trial]:
    """Return the trial of the agent's own YAML, behind those that it builds on."""
    spec = shipped(name)
    arm = next(arm for arm, what in spec.arms.items() if what.agent.name == name)
    after = spec.arms[arm].after
    before = plan.trials(spec, after, "test", {}, spec.seeds.test[:1]) if after else []
    return before + plan.trials(spec, arm, "test", {}, spec.seeds.test[:1])


def last_told(name: str, storage: Path | None, stop_at: int | None = None) -> list[Report]:
    told: list[Report] = []
    for trial in trials(name):
        told = []
        for i, event in enumerate(play(Bundle(trials=(trial,)), Alone(), storage)):
            if isinstance(event, Report):
                told.append(event)
            if trial == trials(name)[-1] and i == stop_at:
                break
    return told


def born(trial: Trial, world: World) -> Agent:
    spec = world_spec(trial.tasks, trial.budget.num_envs)
    spec = msgspec_replace(spec, given=bool(world.given))
    return contract.make(trial.agent, spec, seed=7)


def msgspec_replace(spec: Any, **changes: Any) -> Any:
    import dataclasses

    return dataclasses.replace(spec, **changes)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Any]:
    """Open fresh worlds of an agent's own trial, whose policies of before are played once."""
    worlds: list[World] = []

    def open_(name: str) -> tuple[Trial, World]:
        *before, trial = trials(name)
        for needed in before:
            if not (tmp_path / needed.id).exists():
                list(play(Bundle(trials=(needed,)), Alone(), tmp_path))
        given = contract.load_policies(tmp_path / trial.after / "policies") if trial.after else {}
        worlds.append(open_world(trial.tasks[0], trial.budget.num_envs, 3, given))
        return trial, worlds[-1]

    yield open_
    for world in worlds:
        world.close()


def answers(agent: Agent, world: World) -> dict[str, Any]:
    obs = np.stack([world.envs.single_observation_space.sample() for _ in range(1)] * 8)
    return {name: policy(np.zeros_like(obs)) for name, policy in agent.policies().items()}


@every_agent
def test_it_ships_a_yaml_that_names_it(name: str) -> None:
    assert any(arm.agent.name == name for arm in shipped(name).arms.values())


@every_agent
def test_it_has_defaults_and_refuses_what_it_does_not_have(name: str) -> None:
    assert configure(AgentSpec(name=name)) is not None
    with pytest.raises(SpecError, match="but 'no_such' is not"):
        configure(AgentSpec(name=name, config={"no_such": 1}))


@every_agent
def test_steps_grow_and_end_safely_at_the_budget(name: str, opened: Any) -> None:
    trial, world = opened(name)
    agent, span = born(trial, world), Span(0, 0, trial.budget.steps)
    seen = list(agent.learn(world, Alone(), span))
    assert [p.step for p in seen] == sorted(p.step for p in seen)
    assert [p.update for p in seen] == sorted(p.update for p in seen)
    assert seen[-1].step == span.stop
    assert seen[-1].safe


@every_agent
def test_its_yaml_is_played_the_same_twice(name: str) -> None:
    first, second = last_told(name, None), last_told(name, None) if name == "" else None
    assert first[-1].finished
    assert second is None


@every_agent
def test_interrupted_it_is_to_the_bit_what_it_was(name: str, tmp_path: Path) -> None:
    whole = last_told(name, tmp_path / "whole")
    last_told(name, tmp_path / "cut", stop_at=max(1, events(name, tmp_path) * 2 // 3))
    again = last_told(name, tmp_path / "cut")
    key = {(r.stage, r.step, r.update): msgspec.msgpack.encode(r) for r in whole}
    assert again
    assert all(key[r.stage, r.step, r.update] == msgspec.msgpack.encode(r) for r in again)
    assert again[-1] == whole[-1]


def events(name: str, tmp_path: Path) -> int:
    *before, trial = trials(name)
    for needed in before:
        list(play(Bundle(trials=(needed,)), Alone(), tmp_path / "count"))
    return sum(1 for _ in play(Bundle(trials=(trial,)), Alone(), tmp_path / "count"))


@every_agent
def test_it_may_be_closed_at_every_safe_yield(name: str, opened: Any, tmp_path: Path) -> None:
    """Closed, saved, loaded into another one and called again, it ends where it should."""
    trial, world = opened(name)
    agent, step, rounds = born(trial, world), 0, 0
    while step < trial.budget.steps:
        learner = agent.learn(world, Alone(), Span(0, step, trial.budget.steps))
        for progress in learner:
            step = progress.step
            if progress.safe:
                break
        learner.close()  # type: ignore[attr-defined]
        folder = tmp_path / f"round-{rounds}"
        folder.mkdir()
        agent.save(folder)
        heir = born(trial, world)
        heir.load(folder)
        if step < trial.budget.steps:
            agent = heir
        rounds += 1
    assert step == trial.budget.steps


@every_agent
def test_policies_stand_alone_and_come_back_the_same(
    name: str, opened: Any, tmp_path: Path
) -> None:
    trial, world = opened(name)
    agent = born(trial, world)
    for progress in agent.learn(world, Alone(), Span(0, 0, trial.budget.steps)):
        if progress.safe:
            break
    before = answers(agent, world)
    kept = agent.policies()
    for policy_name, policy in kept.items():
        contract.save_policy(policy, tmp_path / "kept" / policy_name)
    list(agent.learn(world, Alone(), Span(0, 0, trial.budget.steps)))
    obs = np.zeros((8, *world.envs.single_observation_space.shape), np.float32)  # type: ignore[misc]
    loaded = contract.load_policies(tmp_path / "kept")
    for policy_name, action in before.items():
        np.testing.assert_array_equal(loaded[policy_name](obs), action)


@every_agent
def test_policies_leave_global_randomness_alone(name: str, opened: Any) -> None:
    trial, world = opened(name)
    agent = born(trial, world)
    with closing(agent.learn(world, Alone(), Span(0, 0, trial.budget.steps))) as learner:  # type: ignore[type-var]
        next(iter(learner))
        before = np.random.get_state()[1].copy()  # type: ignore[index, union-attr]  # noqa: NPY002
        answers(agent, world)
        np.testing.assert_array_equal(before, np.random.get_state()[1])  # type: ignore[index]  # noqa: NPY002


def test_an_unknown_agent_is_named() -> None:
    with pytest.raises(UnknownAgent, match="'sarsa'"):
        configure(AgentSpec(name="sarsa"))
