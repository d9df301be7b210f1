"""The gradients of soft actor-critic's losses, written out.

The same numbers as `blocks/soft.py` differentiated, in a third of the time. It goes where a
profile pointed: no weight gradients of the critics in the actor's loss, no gradient of the
observations at all, one call of the actor for both observations, only the lower critic's slope
of each row, and products in oneDNN (`blocks/layers.py`).

Shapes: B batch, D observation, A action, I observation and action, X outputs of an actor.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rigorl.blocks.layers import Net, forward, product, slopes, weight_slopes
from rigorl.blocks.soft import Draw, draw

Twins = tuple[Net, Net]


class Judging(NamedTuple):
    """What critics learn from: what is to be judged, and what they should say of it."""

    seen_BI: Tensor
    target_B: Tensor


class Acting(NamedTuple):
    """What an actor learns from. The first half of the rows is now, the second comes next.

    `through` and `both` are what the actor made of them with the weights that it had in `version`.
    """

    obs_2BD: Tensor
    noise_2BA: Tensor
    temperature: Tensor
    through: Sequence[Tensor]
    both: Draw
    version: int

    @property
    def size(self) -> int:
        return len(self.obs_2BD) // 2

    def now(self) -> Draw:
        return Draw(*(part[: self.size] for part in self.both))

    def ahead(self) -> Draw:
        return Draw(*(part[self.size :] for part in self.both))


def play(actor: Net, obs_2BD: Tensor, noise_2BA: Tensor, temperature: Tensor) -> Acting:
    """Return what *actor* does now, and would do next."""
    # A view's counter is that of all weights; autograd tells by it that a tensor was written to.
    version = actor[0].weight_OI._version  # noqa: SLF001
    through = forward(actor, obs_2BD)
    return Acting(obs_2BD, noise_2BA, temperature, through, draw(through[-1], noise_2BA), version)


def critic_slopes(
    critics: Twins, seen_BI: Tensor, targets: tuple[Tensor, Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """Return the gradient of half the mean squared error to *targets* (of B), and the errors."""
    grads: list[Tensor] = []
    errors = []
    for net, target_B in zip(critics, targets, strict=True):
        through = forward(net, seen_BI)
        error_B1 = through[-1] - target_B[:, None]
        back = slopes(net, through, error_B1 / len(target_B))
        grads += weight_slopes(through, back)
        errors.append(error_B1)
    return grads, errors


def actor_slopes(actor: Net, critics: Twins, acting: Acting) -> tuple[list[Tensor], Tensor]:
    """Return the gradient of an actor's loss, and what the lower critic says of its actions."""
    B, now, temperature = acting.size, acting.now(), acting.temperature
    value_B, slope_BA = _judge(critics, acting.obs_2BD[:B], now.action_BA)
    # d log(1 - tanh(u)^2) / du = -2 tanh(u)
    slope_u_BA = (1 - now.action_BA.square()) * slope_BA + (2 / B) * temperature * now.action_BA
    slope_log_std_BA = slope_u_BA * now.std_BA * acting.noise_2BA[:B] - temperature / B
    head_BX = torch.cat([slope_u_BA, slope_log_std_BA * now.free_BA], 1)
    here = [part[:B] for part in acting.through]
    return weight_slopes(here, slopes(actor, here, head_BX)), value_B


def _judge(critics: Twins, obs_BD: Tensor, action_BA: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lower critic's value_B, and how minus its mean changes with the action."""
    in_BI = torch.cat([obs_BD, action_BA], 1)
    throughs = [forward(net, in_BI) for net in critics]
    lower_B = (throughs[0][-1] <= throughs[1][-1]).squeeze(1)
    slope_BA = torch.empty_like(action_BA)
    for net, through, mine_B in zip(critics, throughs, (lower_B, ~lower_B), strict=True):
        rows = mine_B.nonzero().squeeze(1)  # only the lower one's slope counts
        there = [part.index_select(0, rows) for part in through]
        back = slopes(net, there, torch.full_like(there[-1], -1 / len(in_BI)))
        of_action_OA = net[0].weight_OI[:, obs_BD.shape[1] :].contiguous()
        slope_BA.index_copy_(0, rows, product(back[0], of_action_OA))
    return torch.min(throughs[0][-1], throughs[1][-1]).squeeze(1), slope_BA
