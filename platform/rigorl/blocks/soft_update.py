"""One update of soft actor-critic, with gradients written out.

The same numbers as `blocks/soft.py` differentiated, in a third of the time. It goes where a
profile pointed: no weight gradients of the critics in the actor's loss, no gradient of the
observations at all, one call of the actor for both observations, only the lower critic's slope
of each row, and products in oneDNN (`blocks/layers.py`).

Shapes: B batch, D observation, A action, I observation and action.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rigorl.blocks.adam import Adam
from rigorl.blocks.layers import (
    Net,
    carve,
    forward,
    initialise,
    parameters,
    product,
    slopes,
    weight_slopes,
    widths,
)
from rigorl.blocks.soft import Draw, Steps, draw, target


class Settings(NamedTuple):
    """What an update is made with; *target_entropy* None keeps the temperature."""

    lr: float
    discount: float
    tau: float
    target_every: int
    target_entropy: float | None


class Soft:
    """An actor, twin critics, their slow copies, and a temperature."""

    def __init__(
        self,
        n_obs: int,
        n_actions: int,
        hidden: Sequence[int],
        log_temperature: float,
        generator: torch.Generator,
    ) -> None:
        self.n_obs = n_obs
        acting = [n_obs, *hidden, 2 * n_actions]
        judging = [n_obs + n_actions, *hidden, 1]
        n_actor, n_critic = sum(widths(acting)), sum(widths(judging))
        self.weights = torch.zeros(n_actor + 2 * n_critic)
        actor, self._critics_flat = torch.split(self.weights, [n_actor, 2 * n_critic])
        self.actor = carve(actor, acting)
        self.critics = _twins(self._critics_flat, judging)
        for net in (self.actor, *self.critics):
            initialise(net, generator)
        self.targets_flat = self._critics_flat.clone()
        self.targets = _twins(self.targets_flat, judging)
        self.log_temperature = torch.tensor([log_temperature])
        self.actor_adam = Adam(parameters([self.actor]))
        self.critic_adam = Adam(parameters(self.critics))
        self.temperature_adam = Adam([self.log_temperature])
        self.updates = 0

    def update(self, steps: Steps, noise_2BA: Tensor, settings: Settings) -> dict[str, Tensor]:
        """Learn from *steps*; the first half of the noise is for now, the second for next.

        Return what `told` makes metrics of.
        """
        B = len(steps.obs_BD)
        temperature = self.log_temperature.exp()
        through = forward(self.actor, torch.cat([steps.obs_BD, steps.next_obs_BD]))
        both = draw(through[-1], noise_2BA)
        now, ahead = (Draw(*(part[half] for part in both)) for half in (slice(B), slice(B, None)))
        next_in_BI = torch.cat([steps.next_obs_BD, ahead.action_BA], 1)
        next_B = torch.min(*(forward(net, next_in_BI)[-1] for net in self.targets)).squeeze(1)
        soft_B = next_B - temperature * ahead.log_prob_B
        target_B = target(steps.reward_B, steps.terminal_B, soft_B, settings.discount)
        errors = self._improve_critics(steps, target_B, settings.lr)
        value_B = self._improve_actor(steps, now, noise_2BA[:B], through, temperature, settings.lr)
        self.updates += 1
        if settings.target_entropy is not None:
            slope = -(now.log_prob_B.mean(0, keepdim=True) + settings.target_entropy)
            self.temperature_adam.step([slope], settings.lr)
        if self.updates % settings.target_every == 0:
            self.targets_flat.lerp_(self._critics_flat, settings.tau)
        return {
            "errors": errors,
            "value": value_B,
            "log_prob": now.log_prob_B,
            "temperature": temperature,
        }

    def _improve_critics(self, steps: Steps, target_B: Tensor, lr: float) -> Tensor:
        """Take a step down their loss. Return both critics' errors, one behind the other."""
        seen_BI = torch.cat([steps.obs_BD, steps.action_BA], 1)
        grads: list[Tensor] = []
        errors = []
        for net in self.critics:
            through = forward(net, seen_BI)
            error_B1 = through[-1] - target_B[:, None]
            back = slopes(net, through, error_B1 / len(target_B))
            grads += weight_slopes(through, back)
            errors.append(error_B1)
        self.critic_adam.step(grads, lr)
        return torch.cat(errors)

    def _improve_actor(
        self,
        steps: Steps,
        now: Draw,
        noise_BA: Tensor,
        through: Sequence[Tensor],
        temperature: Tensor,
        lr: float,
    ) -> Tensor:
        """Take a step down its loss. Return what the lower critic says of its actions."""
        B = len(noise_BA)
        value_B, slope_BA = self._judge(torch.cat([steps.obs_BD, now.action_BA], 1))
        # d log(1 - tanh(u)^2) / du = -2 tanh(u)
        slope_u_BA = (1 - now.action_BA.square()) * slope_BA + (2 / B) * temperature * now.action_BA
        slope_log_std_BA = slope_u_BA * now.std_BA * noise_BA - temperature / B
        head_BX = torch.cat([slope_u_BA, slope_log_std_BA * now.free_BA], 1)
        here = [part[:B] for part in through]
        self.actor_adam.step(weight_slopes(here, slopes(self.actor, here, head_BX)), lr)
        return value_B

    def _judge(self, in_BI: Tensor) -> tuple[Tensor, Tensor]:
        """Return the lower critic's value_B, and how minus its mean changes with the action."""
        throughs = [forward(net, in_BI) for net in self.critics]
        lower_B = (throughs[0][-1] <= throughs[1][-1]).squeeze(1)
        slope_BA = in_BI.new_empty(len(in_BI), in_BI.shape[1] - self.n_obs)
        for net, through, mine_B in zip(self.critics, throughs, (lower_B, ~lower_B), strict=True):
            rows = mine_B.nonzero().squeeze(1)  # only the lower one's slope counts
            there = [part.index_select(0, rows) for part in through]
            back = slopes(net, there, torch.full_like(there[-1], -1 / len(in_BI)))
            of_action_OA = net[0].weight_OI[:, self.n_obs :].contiguous()
            slope_BA.index_copy_(0, rows, product(back[0], of_action_OA))
        return torch.min(throughs[0][-1], throughs[1][-1]).squeeze(1), slope_BA

    def state(self) -> dict[str, dict[str, Tensor]]:
        nets = {
            "weights": self.weights,
            "targets": self.targets_flat,
            "log_temperature": self.log_temperature,
            "updates": torch.tensor(self.updates),
        }
        return {"nets": nets, **{name: adam.state() for name, adam in self._adams().items()}}

    def load(self, state: dict[str, dict[str, Tensor]]) -> None:
        self.weights.copy_(state["nets"]["weights"])
        self.targets_flat.copy_(state["nets"]["targets"])
        self.log_temperature.copy_(state["nets"]["log_temperature"])
        self.updates = int(state["nets"]["updates"])
        for name, adam in self._adams().items():
            adam.load(state[name])

    def forget(self) -> None:
        """Let Adam begin anew from the present weights."""
        for adam in self._adams().values():
            adam.forget()

    def _adams(self) -> dict[str, Adam]:
        return {
            "actor": self.actor_adam,
            "critic": self.critic_adam,
            "temperature": self.temperature_adam,
        }


def _twins(flat: Tensor, sizes: Sequence[int]) -> tuple[Net, Net]:
    one, other = flat.chunk(2)
    return carve(one, sizes), carve(other, sizes)


def told(seen: dict[str, Tensor]) -> dict[str, float]:
    """Return the metrics of what `Soft.update` returned."""
    errors, value_B, log_prob_B, temperature = (
        seen[name].numpy() for name in ("errors", "value", "log_prob", "temperature")
    )
    return {
        "critic_loss": float((errors * errors).sum()) / len(errors),
        "actor_loss": float((temperature * log_prob_B - value_B).mean()),
        "q": float(value_B.mean()),
        "entropy": -float(log_prob_B.mean()),
        "temperature": float(temperature[0]),
    }
