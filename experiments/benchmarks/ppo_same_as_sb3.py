"""Is our PPO the same algorithm as Stable-Baselines3's? Feed it theirs, step by step.

    python experiments/benchmarks/ppo_same_as_sb3.py [ENV] [ROLLOUTS]

Ours gets SB3's initial weights, and then, rollout after rollout, SB3's actions and SB3's order of
minibatches. Everything else is its own: environments, normalisers, advantages, losses, Adam.
Prints the largest difference of each quantity; all must stay at rounding.
"""

import sys
from collections import deque
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from ppo_settings import NUM_ENVS, SETTINGS
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from rigorl.agents import ppo
from rigorl.blocks.rollout import Episodes
from rigorl.tasks.world import WorldSpec

T = SETTINGS["n_steps"]


def weights(theirs: Any, ours: ppo.PPO) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return the pairs of tensors that must be equal: theirs, ours."""
    policy = theirs.policy
    nets = [
        ([*policy.mlp_extractor.policy_net, policy.action_net], ours.actor.mean),
        ([*policy.mlp_extractor.value_net, policy.value_net], ours.critic),
    ]
    pairs = [(policy.log_std, ours.actor.log_std_A)]
    for their_layers, our_layers in nets:
        linear = [[m for m in net if hasattr(m, "weight")] for net in (their_layers, our_layers)]
        for a, b in zip(*linear, strict=True):
            pairs += [(a.weight, b.weight), (a.bias, b.bias)]
    return pairs


def gap(pairs: list[tuple[Any, Any]]) -> float:
    """Return the largest difference between the parts of any pair."""
    return max(float((torch.as_tensor(a) - torch.as_tensor(b)).abs().max()) for a, b in pairs)


def main(env: str = "HalfCheetah-v5", rollouts: int = 6) -> None:
    torch.set_num_threads(1)
    theirs = PPO(
        "MlpPolicy",
        VecNormalize(DummyVecEnv([partial(gym.make, env)] * NUM_ENVS)),
        n_steps=T,
        batch_size=SETTINGS["minibatch"],
        n_epochs=SETTINGS["epochs"],
        seed=0,
        device="cpu",
    )
    theirs._logger = Logger(None, [])  # noqa: SLF001
    _, quiet = theirs._setup_learn(rollouts * T * NUM_ENVS)  # noqa: SLF001  resets, as ours below
    envs = SyncVectorEnv(
        [partial(gym.make, env)] * NUM_ENVS, autoreset_mode=AutoresetMode.SAME_STEP
    )
    spaces = envs.single_observation_space, envs.single_action_space
    ours = ppo.make(ppo.Config(**SETTINGS), WorldSpec(*spaces, NUM_ENVS, ()), 0)
    with torch.no_grad():
        for a, b in weights(theirs, ours):
            b.copy_(a)
    ours.obs_scale.moments.count = ours.reward_scale.moments.count = 1e-4  # as SB3 begins
    ours.reward_scale.begin(NUM_ENVS)
    obs_ED = ours.obs_scale.learn(envs.reset(seed=list(range(NUM_ENVS)))[0])
    orders: deque[np.ndarray] = deque()
    shuffle = np.random.permutation
    np.random.permutation = lambda n: orders.append(shuffle(n)) or orders[-1]
    # SB3 counts rows environment by environment, ours step by step.
    ppo.torch.randperm = lambda *_, **__: torch.as_tensor(
        (orders[0] % T) * NUM_ENVS + orders.popleft() // T
    )
    for number in range(1, rollouts + 1):
        theirs.collect_rollouts(theirs.env, quiet, theirs.rollout_buffer, T)
        buffer = theirs.rollout_buffer
        actions = iter(buffer.actions.copy())
        ours.net.act = lambda *_, actions=actions: next(actions)
        batch, obs_ED = ours._collect(envs, obs_ED, T, Episodes(NUM_ENVS))  # noqa: SLF001
        told = {
            "observations": (batch.obs_BD, buffer.observations),
            "log-probabilities": (batch.log_prob_B, buffer.log_probs),
            "advantages": (batch.advantage_B, buffer.advantages),
            "returns": (batch.return_B, buffer.returns),
        }
        found = {
            what: gap([(mine, torch.as_tensor(his).reshape(mine.shape))])
            for what, (mine, his) in told.items()
        }
        theirs._current_progress_remaining = 1.0  # noqa: SLF001
        theirs.train()
        list(ours._improve(batch, SETTINGS["lr"], SETTINGS["clip"]))  # noqa: SLF001
        found["weights after"] = gap([(a.detach(), b.detach()) for a, b in weights(theirs, ours)])
        parts = ", ".join(f"{what} {size:.1e}" for what, size in found.items())
        print(f"rollout {number}, {ours.updates} updates: {parts}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:3]))
