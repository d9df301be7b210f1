"""Where nobody pushes, and nothing is priced, what H-infinity learns is what PPO learns."""

from contextlib import closing
from typing import Any

import torch

from rigorl.agents import hinf, ppo
from rigorl.contract import Span
from rigorl.outside.in_process import Alone
from rigorl.ports import PortSpec
from rigorl.spec import TaskSpec
from rigorl.tasks.envs import open_world, world_spec

PORT = PortSpec(bodies=("pole",), limit=0.1, unit="weight", best=1.0)
TASK = TaskSpec(name="pole", env="InvertedPendulum-v5", port=PORT)
COUNT, STEPS, HIDDEN = 4, 32, 64


def test_without_forces_it_is_ppo() -> None:
    world_of = world_spec([TASK], COUNT)
    # All rows at once, for ppo evens advantages within each minibatch, and hinf over the rollout;
    # of a deviation of n - 1 and one of n Adam makes the same, if nothing is clipped.
    how: dict[str, Any] = {"n_steps": STEPS, "minibatch": COUNT * STEPS, "epochs": 3, "lr": 1e-3}
    how |= {"max_grad_norm": 1e9, "adam_eps": 1e-12}
    theirs = ppo.make(ppo.Config(**how), world_of, 1)
    mine = hinf.make(hinf.Config(**how, nominal=1.0), world_of, 1)
    told, own = theirs.flat.weights, mine.players.flat.weights
    shared = len(told) - HIDDEN - 1  # all but the last layer of the critic, which has two heads
    assert torch.equal(told[:shared], own[:shared])  # both were born with them
    own[shared : shared + HIDDEN], own[shared + 2 * HIDDEN] = told[shared:-1], told[-1]
    born = own.clone()
    for agent in (theirs, mine):
        with closing(open_world(TASK, COUNT, 1, {})) as world:
            for _ in agent.learn(world, Alone(), Span(0, 0, COUNT * STEPS)):
                pass
    assert (told[:shared] - born[:shared]).abs().max() > 1e-3
    assert float((told[:shared] - own[:shared]).abs().max()) < 2e-6
    costs = slice(shared + HIDDEN, shared + 2 * HIDDEN)
    assert torch.equal(own[costs], born[costs])
