"""The contract, held against every file in rigorl/agents: by name, and by the YAML it ships."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray

from helpers.trials import encoded, until_saved
from rigorl import contract, plan
from rigorl.contract import Agent, Span, configure
from rigorl.errors import SpecError, UnknownAgent
from rigorl.lockstep import play
from rigorl.outside import yaml_file
from rigorl.outside.in_process import Alone
from rigorl.spec import AgentSpec, Experiment
from rigorl.tasks.envs import open_world, world_spec
from rigorl.tasks.world import World
from rigorl.trial import Bundle, Event, Report, Trial

ROOT = Path(__file__).parents[1]
METHODS: list[dict[str, Any]] = [
    {"name": "replay", "memory": 30, "batch": 8},
    {"name": "ewc"},
    {"name": "si"},
    {"name": "lwf"},
    {"name": "agem", "memory": 30, "batch": 8},
    {"name": "steady", "memory": 30, "batch": 8},
    {"name": "refresh", "base": {"name": "replay", "memory": 30, "batch": 8}},
]
LEARNS_BY_METHODS: dict[str, dict[str, Any]] = {"sac": {"method_on": "both"}}
"""Agents that take a `method`, each with what it is tried with."""
every_agent = pytest.mark.parametrize("name", contract.house_agents())
Own = Callable[[str, Path], Trial]
Open = Callable[[str], tuple[Trial, World]]


def shipped(name: str) -> Experiment:
    return yaml_file.read(ROOT / "experiments" / "agents" / f"{name}.yaml")


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Own:
    """Return the trial of an agent's own YAML; what it builds on is lent to a storage.

    That is played once for all tests.
    """
    lent = tmp_path_factory.mktemp("lent")

    def own_(name: str, storage: Path) -> Trial:
        spec = shipped(name)
        arm = next(arm for arm, what in spec.arms.items() if what.agent.name == name)
        after = spec.arms[arm].after
        for before in plan.trials(spec, after, "test", {}, spec.seeds.test[:1]) if after else []:
            if not (lent / before.id).exists():
                list(play(Bundle(trials=(before,)), Alone(), lent))
            (storage / before.id).symlink_to(lent / before.id)
        return plan.trials(spec, arm, "test", {}, spec.seeds.test[:1])[0]

    return own_


@pytest.fixture(scope="module")
def whole(own: Own, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[Event]]:
    """Return what an agent's own trial tells when nothing interrupts it, played once."""

    @cache
    def whole_(name: str) -> list[Event]:
        storage = tmp_path_factory.mktemp("whole")
        return list(play(Bundle(trials=(own(name, storage),)), Alone(), storage))

    return whole_


def born(trial: Trial, world: World) -> Agent:
    spec = world_spec(trial.tasks, trial.budget.num_envs)
    return contract.make(trial.agent, replace(spec, given=bool(world.given)), seed=7)


@pytest.fixture
def opened(own: Own, tmp_path: Path) -> Iterator[Open]:
    worlds: list[World] = []

    def open_(name: str) -> tuple[Trial, World]:
        trial = own(name, tmp_path)
        after = trial.after
        given = contract.load_policies(tmp_path / after / "policies") if after else {}
        worlds.append(open_world(trial.tasks[0], trial.budget.num_envs, 3, given))
        return trial, worlds[-1]

    yield open_
    for world in worlds:
        world.close()


def answers(agent: Agent, world: World) -> dict[str, NDArray[Any]]:
    return {name: policy(some_obs(world)) for name, policy in agent.policies().items()}


def some_obs(world: World) -> NDArray[Any]:
    shape = world.envs.single_observation_space.shape or ()
    return np.random.default_rng(0).normal(size=(16, *shape)).astype(np.float32)


@every_agent
def test_it_ships_a_yaml_that_names_it(name: str) -> None:
    assert any(arm.agent.name == name for arm in shipped(name).arms.values())


@every_agent
def test_it_has_defaults_and_refuses_what_it_does_not_have(name: str) -> None:
    assert configure(AgentSpec(name=name)) is not None
    with pytest.raises(SpecError, match="'no_such' is not"):
        configure(AgentSpec(name=name, config={"no_such": 1}))


@every_agent
def test_steps_and_updates_grow_and_end_safely_at_the_budget(name: str, opened: Open) -> None:
    trial, world = opened(name)
    span = Span(0, 0, trial.budget.steps)
    seen = list(born(trial, world).learn(world, Alone(), span))
    assert [p.step for p in seen] == sorted(p.step for p in seen)
    assert [p.update for p in seen] == sorted(p.update for p in seen)
    assert seen[-1].step == span.stop
    assert seen[-1].safe


@every_agent
def test_its_yaml_is_played_the_same_twice(
    name: str, own: Own, whole: Callable[[str], list[Event]], tmp_path: Path
) -> None:
    again = play(Bundle(trials=(own(name, tmp_path),)), Alone(), tmp_path)
    first, second = ([e for e in told if isinstance(e, Report)] for told in (whole(name), again))
    assert first[-1].finished
    assert msgspec.msgpack.encode(first) == msgspec.msgpack.encode(second)


@every_agent
@pytest.mark.parametrize("share", [0.7])
def test_interrupted_it_is_to_the_bit_what_it_was(
    name: str, share: float, own: Own, whole: Callable[[str], list[Event]], tmp_path: Path
) -> None:
    bundle = Bundle(trials=(own(name, tmp_path),))
    for i, _ in enumerate(play(bundle, Alone(), tmp_path)):
        if i >= share * len(whole(name)):
            break  # as if the process were killed: nothing more is saved
    again = [e for e in play(bundle, Alone(), tmp_path) if isinstance(e, Report)]
    reports = {(e.stage, e.step, e.update): e for e in whole(name) if isinstance(e, Report)}
    for report in again:
        before = reports[report.stage, report.step, report.update]
        assert msgspec.msgpack.encode(before) == msgspec.msgpack.encode(report)
    assert again[-1].finished


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method["name"])
@pytest.mark.parametrize("name", LEARNS_BY_METHODS)
def test_with_a_method_too(name: str, method: dict[str, Any], own: Own, tmp_path: Path) -> None:
    """Cut after the first task, so that the method holds on to something."""
    trial = own(name, tmp_path)
    config = {**trial.agent.config, **LEARNS_BY_METHODS[name], "method": method}
    trial = msgspec.structs.replace(
        trial, agent=msgspec.structs.replace(trial.agent, config=config)
    )
    bundle, ends = Bundle(trials=(trial,)), []
    told = list(play(bundle, Alone(), tmp_path / "whole"))
    cut = until_saved(play(bundle, Alone(), tmp_path / "cut"), 3)
    assert (cut[-1].stage, cut[-1].step) == (1, 40)  # type: ignore[union-attr]
    again = list(play(bundle, Alone(), tmp_path / "cut"))
    assert encoded(cut + again) == encoded(told)
    for where in ("whole", "cut"):
        kept = sorted((tmp_path / where / trial.id / "policies").rglob("*.safetensors"))
        ends.append([path.read_bytes() for path in kept])
    assert ends[0] == ends[1] != [[]]


@every_agent
def test_it_may_be_closed_saved_and_replaced_at_every_safe_yield(
    name: str, opened: Open, tmp_path: Path
) -> None:
    trial, world = opened(name)
    agent, step, rounds = born(trial, world), 0, 0
    while step < trial.budget.steps:
        learner = agent.learn(world, Alone(), Span(0, step, trial.budget.steps))
        step = next(progress.step for progress in learner if progress.safe)
        learner.close()  # type: ignore[attr-defined]
        folder = tmp_path / f"round-{rounds}"
        folder.mkdir()
        agent.save(folder)
        heir = born(trial, world)
        heir.load(folder)
        if not trial.after:  # what was given comes with `learn`
            np.testing.assert_equal(answers(heir, world), answers(agent, world))
        agent, rounds = heir, rounds + 1
    assert step == trial.budget.steps


@every_agent
def test_policies_stand_alone_and_come_back_the_same(
    name: str, opened: Open, tmp_path: Path
) -> None:
    trial, world = opened(name)
    agent = born(trial, world)
    learner = agent.learn(world, Alone(), Span(0, 0, trial.budget.steps))
    next(progress for progress in learner if progress.safe)
    kept = agent.policies()
    for policy_name, policy in kept.items():
        contract.save_policy(policy, tmp_path / "kept" / policy_name)
    before = {policy_name: policy(some_obs(world)) for policy_name, policy in kept.items()}
    list(learner)  # goes on to learn, which must not reach what was handed out
    loaded = contract.load_policies(tmp_path / "kept")
    again = {policy_name: policy(some_obs(world)) for policy_name, policy in loaded.items()}
    np.testing.assert_equal(again, before)
    if name != "uniform":  # whose stream of actions has moved on
        after = {policy_name: policy(some_obs(world)) for policy_name, policy in kept.items()}
        np.testing.assert_equal(after, before)


@every_agent
def test_it_leaves_global_randomness_alone(name: str, opened: Open) -> None:
    trial, world = opened(name)
    before = repr(np.random.get_state())  # noqa: NPY002
    agent = born(trial, world)
    list(agent.learn(world, Alone(), Span(0, 0, trial.budget.steps)))
    answers(agent, world)
    assert repr(np.random.get_state()) == before  # noqa: NPY002


def test_an_unknown_agent_is_named() -> None:
    with pytest.raises(UnknownAgent, match="'sarsa'"):
        configure(AgentSpec(name="sarsa"))
