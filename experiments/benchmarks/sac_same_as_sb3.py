"""Is our SAC the same algorithm as Stable-Baselines3's? Feed it theirs, update by update.

    python experiments/benchmarks/sac_same_as_sb3.py [ENV] [UPDATES]

SB3 fills its replay at random. Ours gets its initial weights, and then, update after update, its
batches and its noise. Everything else is its own. Prints the norm of the difference of each
quantity, relative to its own. SB3 adds 1e-6 to 1 - tanh(u)^2 in the density of an action, ours
computes it exactly: once with 0 added, and once with that difference. The control is ours fed
with the same, its products by MKL instead of oneDNN: sooner or later rounding alone parts two
runs, for Adam makes a whole step of the first gradient of a weight that had none, however small.
"""

import sys
from collections import deque
from collections.abc import Iterator
from typing import Any

import torch
from stable_baselines3 import SAC
from stable_baselines3.common.logger import Logger
from torch import Tensor

from rigorl.blocks import layers
from rigorl.blocks.layers import Net
from rigorl.blocks.soft import Steps
from rigorl.blocks.soft_update import Settings, Soft

LIVED = 2_000
BATCH = 256
TOLD_AT = (1, 10, 30, 100, 300, 1_000)


def linear(*modules: Any) -> list[Any]:
    return [module for net in modules for module in net.modules() if hasattr(module, "weight")]


def copied(net: Net, layers: list[Any]) -> None:
    """Copy the weights of SB3's *layers* to *net*; an actor's heads become one layer."""
    heads = len(layers) - len(net) + 1
    groups = [[layer] for layer in layers[: len(net) - 1]] + [layers[-heads:]]
    for mine, group in zip(net, groups, strict=True):
        mine.weight_OI.copy_(torch.cat([layer.weight for layer in group]))
        mine.bias_O.copy_(torch.cat([layer.bias for layer in group]))


def copy_all(theirs: SAC, ours: Soft) -> None:
    actor = theirs.actor
    copied(ours.actor, linear(actor.latent_pi, actor.mu, actor.log_std))
    for mine, critic in ((ours.critics, theirs.critic), (ours.targets, theirs.critic_target)):
        for net, q in zip(mine, critic.q_networks, strict=True):
            copied(net, linear(q))


def gap(mine: Tensor, his: Tensor) -> float:
    return float((mine - his).norm() / his.norm())


def compare(env: str, updates: int, epsilon: float) -> Iterator[str]:
    """Yield the differences after each of TOLD_AT updates."""
    theirs = SAC("MlpPolicy", env, seed=0, device="cpu", learning_starts=LIVED)
    theirs._logger = Logger(None, [])  # noqa: SLF001
    theirs.learn(LIVED)  # acts at random, and does not learn yet
    theirs.actor.action_dist.epsilon = epsilon
    n_obs, n_actions = (space.shape[0] for space in (theirs.observation_space, theirs.action_space))
    ours, control, reading = (
        Soft(n_obs, n_actions, (256, 256), 0.0, torch.Generator()) for _ in range(3)
    )  # and theirs, as ours has it
    settings = Settings(3e-4, 0.99, 0.005, 1, -float(n_actions))
    onednn = layers._LINEAR  # noqa: SLF001
    with torch.no_grad():
        copy_all(theirs, ours)
        copy_all(theirs, control)
    drawn: deque[Tensor] = deque()
    torch.distributions.normal._standard_normal = lambda *_, **__: drawn.popleft()  # noqa: SLF001
    for number in range(1, updates + 1):
        noise_2BA = torch.randn(2 * BATCH, n_actions)
        drawn.extend(noise_2BA.chunk(2))
        batch = theirs.replay_buffer.sample(BATCH)
        theirs.replay_buffer.sample = lambda *_, batch=batch, **__: batch
        theirs.train(1, BATCH)
        del theirs.replay_buffer.sample
        parts = (batch.observations, batch.actions, batch.next_observations)
        ends = (batch.rewards.squeeze(1), batch.dones.squeeze(1))
        steps = Steps(*(part.float() for part in (*parts, *ends)))
        with torch.no_grad():
            ours.update(steps, noise_2BA, settings)
            layers._LINEAR = None  # noqa: SLF001
            control.update(steps, noise_2BA, settings)
            layers._LINEAR = onednn  # noqa: SLF001
            copy_all(theirs, reading)
            found = {
                "weights": gap(ours.weights, reading.weights),
                "targets": gap(ours.targets_flat, reading.targets_flat),
                "log temperature": gap(ours.log_temperature, theirs.log_ent_coef),
                "control's weights": gap(control.weights, ours.weights),
            }
        if number in TOLD_AT:
            parts = ", ".join(f"{what} {size:.1e}" for what, size in found.items())
            yield f"{env}, {epsilon:g} added, {number} updates: {parts}"


def main(env: str = "Hopper-v5", updates: int = 100) -> None:
    torch.set_num_threads(1)
    for epsilon in (0.0, 1e-6):
        for line in compare(env, updates, epsilon):
            print(line, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:2], *map(int, sys.argv[2:3]))
