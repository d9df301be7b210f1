"""Soft actor-critic, as it is read: what is drawn, and what is minimised.

Haarnoja et al. 2018, "Soft Actor-Critic Algorithms and Applications". The losses can be
differentiated automatically. The agent learns by `blocks/soft_slopes.py`, whose gradients are
written out; the tests hold the two together.

Shapes: B batch, D observation, A action. An action is a = tanh(u), u = mean + deviation * noise.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import linear, softplus

from rigorl.blocks.layers import Net

LOG_STD_LOW, LOG_STD_HIGH = -20.0, 2.0
HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)
LOG_2 = math.log(2.0)


class Steps(NamedTuple):
    """Transitions to learn from."""

    obs_BD: Tensor
    action_BA: Tensor
    next_obs_BD: Tensor
    reward_B: Tensor
    terminal_B: Tensor
    """1 where there is nothing to come; 0 where an episode goes on or time was up."""


class Draw(NamedTuple):
    """Actions of an actor, and what its gradient needs of them."""

    action_BA: Tensor
    log_prob_B: Tensor
    std_BA: Tensor
    free_BA: Tensor
    """Where the deviation is not at its bounds."""


def draw(head_BX: Tensor, noise_BA: Tensor) -> Draw:
    """Return the actions that *noise_BA* makes of an actor's outputs (mean, log deviation)."""
    mean_BA, wanted_BA = head_BX.chunk(2, -1)
    log_std_BA = wanted_BA.clamp(LOG_STD_LOW, LOG_STD_HIGH)
    std_BA = log_std_BA.exp()
    u_BA = mean_BA + std_BA * noise_BA
    free_BA = log_std_BA == wanted_BA
    return Draw(u_BA.tanh(), log_prob(u_BA, log_std_BA, noise_BA), std_BA, free_BA)


def log_prob(u_BA: Tensor, log_std_BA: Tensor, noise_BA: Tensor) -> Tensor:
    """Return log_prob_B of tanh(u): that of u less log(1 - tanh(u)^2) (appendix C).

    The latter is written as 2 (log 2 - u - softplus(-2 u)), which is exact where tanh is 1.
    """
    normal_BA = -0.5 * noise_BA.square() - log_std_BA - HALF_LOG_TAU
    return (normal_BA - 2 * (LOG_2 - u_BA - softplus(-2 * u_BA))).sum(-1)


def target(reward_B: Tensor, terminal_B: Tensor, soft_value_B: Tensor, discount: float) -> Tensor:
    """Return what a critic should say: equations 2 and 3."""
    return reward_B + discount * (1 - terminal_B) * soft_value_B


def outputs(net: Net, x_BI: Tensor) -> Tensor:
    """Return what `layers.forward` does, in a way that can be differentiated."""
    for layer in net[:-1]:
        x_BI = linear(x_BI, *layer).relu()
    return linear(x_BI, *net[-1])


def values(critic: Net, obs_BD: Tensor, action_BA: Tensor) -> Tensor:
    return outputs(critic, torch.cat([obs_BD, action_BA], -1)).squeeze(-1)


def critic_loss(
    critics: tuple[Net, Net],
    targets: tuple[Net, Net],
    actor: Net,
    temperature: Tensor,
    steps: Steps,
    noise_BA: Tensor,
    discount: float,
) -> Tensor:
    """Half the mean squared error, summed over both critics: equation 5."""
    with torch.no_grad():
        ahead = draw(outputs(actor, steps.next_obs_BD), noise_BA)
        next_B = torch.min(*(values(net, steps.next_obs_BD, ahead.action_BA) for net in targets))
        soft_B = next_B - temperature * ahead.log_prob_B
        target_B = target(steps.reward_B, steps.terminal_B, soft_B, discount)
    errors = [values(net, steps.obs_BD, steps.action_BA) - target_B for net in critics]
    return 0.5 * (errors[0].square().mean() + errors[1].square().mean())


def actor_loss(
    critics: tuple[Net, Net], temperature: Tensor, obs_BD: Tensor, drawn: Draw
) -> Tensor:
    """Equation 9, with the lower one of both critics."""
    value_B = torch.min(*(values(net, obs_BD, drawn.action_BA) for net in critics))
    return (temperature.detach() * drawn.log_prob_B - value_B).mean()


def temperature_loss(log_temperature: Tensor, log_prob_B: Tensor, target_entropy: float) -> Tensor:
    """Equation 18, on the logarithm as is customary: less entropy than wanted, and it grows."""
    return -(log_temperature * (log_prob_B.detach() + target_entropy)).mean()


def divergence(head_NX: Tensor, was_mean_NA: Tensor, was_log_std_NA: Tensor) -> Tensor:
    """Return the mean over rows of KL(what was || what an actor's outputs are), before tanh."""
    mean_NA, wanted_NA = head_NX.chunk(2, -1)
    log_std_NA = wanted_NA.clamp(LOG_STD_LOW, LOG_STD_HIGH)
    spread_NA = (2 * was_log_std_NA).exp() + (mean_NA - was_mean_NA).square()
    ratio_NA = spread_NA / (2 * (2 * log_std_NA).exp())
    return (log_std_NA - was_log_std_NA + ratio_NA - 0.5).sum(-1).mean()
