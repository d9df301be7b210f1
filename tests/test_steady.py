"""Steady in PPO: the Jacobian of its networks, and answers that stay."""

from typing import Any

import pytest
import torch
from torch import Tensor

from helpers.learning import learn, world
from rigorl.agents import ppo
from rigorl.agents.ppo import PPO, Config
from rigorl.blocks.continual import Rows, finetune, replay, steady
from rigorl.tasks.world import WorldSpec

both_worlds = pytest.mark.parametrize("env", ["CartPole-v1", "Pendulum-v1"])


def lived(env: str, method: Any, stages: int = 1) -> PPO:
    """Return an agent that has learned so many tasks."""
    place = world(env)
    envs = place.envs
    spec = WorldSpec(
        envs.single_observation_space, envs.single_action_space, envs.num_envs, (place.task,)
    )
    config = Config(n_steps=16, minibatch=48, epochs=2, hidden=(8, 6), lr=3e-3, method=method)
    who = ppo.make(config, spec, 0)
    for stage in range(stages):
        learn(who, world(env, seed=stage), 0, 128, stage)
    return who


def remembered(who: PPO) -> Rows:
    assert who.taught
    rows = who.taught.method.lesson(None).memories
    assert rows is not None
    return rows


def answered(who: PPO, rows: Rows) -> list[Tensor]:
    """Return what its networks say of what *rows* ask: means or logits, and the value."""
    assert who.taught
    student = who.taught.student
    scaled_ND = torch.from_numpy(student.scale(rows[0].numpy()))
    with torch.no_grad():
        return [net(scaled_ND).flatten() for net in student.heads]


@both_worlds
def test_the_jacobian_says_where_answers_go(env: str) -> None:
    who = lived(env, steady.Config(memory=12, batch=6))
    assert who.taught
    rows, weights_P = remembered(who), who.flat.weights
    tangents = who.taught.student.tangents(rows)
    way_P = torch.randn(len(weights_P), generator=torch.Generator().manual_seed(0))
    before = weights_P.clone()
    weights_P.add_(way_P, alpha=1e-3)
    there = answered(who, rows)
    weights_P.copy_(before - 1e-3 * way_P)
    here = answered(who, rows)
    for tangent, plus, minus in zip(tangents, there, here, strict=True):
        expected = (plus - minus) / 2e-3
        torch.testing.assert_close(tangent.push(way_P), expected, rtol=2e-2, atol=5e-3)


@both_worlds
def test_what_is_new_moves_no_remembered_answer(env: str) -> None:
    """A tenth as far, to first order, as replay's pull of the new."""
    who = lived(env, steady.Config(memory=12, batch=6, damping=1e-3))
    assert who.taught
    rows, student = remembered(who), who.taught.student
    new_P = torch.randn(len(student.weights_P), generator=torch.Generator().manual_seed(0))
    for tangent in student.tangents(rows):
        own = slice(tangent.begin, tangent.begin + tangent.size)
        held_P = new_P.clone()
        held_P[own] -= tangent.pull(steady.held(tangent, new_P, 1e-3))
        assert tangent.push(held_P).norm() < 0.1 * tangent.push(new_P).norm()


@both_worlds
def test_it_is_another_way_only_after_a_switch(env: str) -> None:
    method = steady.Config(memory=20, batch=8)
    first, plain = lived(env, method), lived(env, finetune.Config())
    assert torch.equal(first.flat.weights, plain.flat.weights)
    second = lived(env, method, stages=2)
    assert torch.isfinite(second.flat.weights).all()
    for other in (finetune.Config(), replay.Config(memory=20, batch=8)):
        assert not torch.equal(second.flat.weights, lived(env, other, stages=2).flat.weights)
