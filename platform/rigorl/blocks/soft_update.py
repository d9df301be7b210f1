"""One update of soft actor-critic: gradients (`blocks/soft_slopes.py`), and a step of Adam.

Where a method against forgetting was chosen, the gradient goes through it
(`blocks/soft_students.py`); without one it goes to Adam as it is.

Shapes: B batch, D observation, A action, I observation and action.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from rigorl.blocks.adam import Adam
from rigorl.blocks.continual import Chosen, Method, is_plain
from rigorl.blocks.layers import Net, carve, forward, initialise, parameters, widths
from rigorl.blocks.soft import Steps, target
from rigorl.blocks.soft_slopes import Acting, Judging, actor_slopes, critic_slopes, play
from rigorl.blocks.soft_students import ActorStudent, CriticsStudent, Taught
from rigorl.seeds import integer

On = Literal["actor", "both"]


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
        self._actor_flat, self._critics_flat = torch.split(self.weights, [n_actor, 2 * n_critic])
        self.actor = carve(self._actor_flat, acting)
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
        self.taught_actor: Taught[ActorStudent] | None = None
        self.taught_critics: Taught[CriticsStudent] | None = None

    def teach(self, chosen: Chosen, on: On, seed: int) -> None:
        """Let the actor, or both, learn by the method *chosen* from now on, each by its own."""
        if is_plain(chosen):
            return
        actor = ActorStudent(self.actor, self.critics, self._actor_flat)
        self.taught_actor = Taught(actor, [self.actor], chosen, integer(seed, "actor"))
        if on == "both":
            critics = CriticsStudent(self.critics, self._critics_flat)
            self.taught_critics = Taught(critics, self.critics, chosen, integer(seed, "critics"))

    def update(self, steps: Steps, noise_2BA: Tensor, settings: Settings) -> dict[str, Tensor]:
        """Learn from *steps*; the first half of the noise is for now, the second for next.

        Return what `told` makes metrics of.
        """
        acting, judging = self._aims(steps, noise_2BA, settings.discount)
        now = acting.now()
        errors = self._improve_critics(judging, settings.lr)
        value_B = self._improve_actor(acting, settings.lr)
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
            "temperature": acting.temperature,
        }

    def consolidate(self, steps: Steps, noise_2BA: Tensor, discount: float, group: int) -> None:
        """Take note that a task was learned, of which *steps* are.

        A batch is made of as many of them as there is noise for; all may be remembered.
        """
        some = Steps(*(column[: len(noise_2BA) // 2] for column in steps))
        acting, judging = self._aims(some, noise_2BA, discount)
        if self.taught_actor:
            self.taught_actor.consolidate(acting, steps.obs_BD, group)
        if self.taught_critics:
            seen_BI = torch.cat([steps.obs_BD, steps.action_BA], 1)
            self.taught_critics.consolidate(judging, seen_BI, group)

    def _aims(self, steps: Steps, noise_2BA: Tensor, discount: float) -> tuple[Acting, Judging]:
        """Return what the actor and the critics are to learn from."""
        temperature = self.log_temperature.exp()
        obs_2BD = torch.cat([steps.obs_BD, steps.next_obs_BD])
        acting = play(self.actor, obs_2BD, noise_2BA, temperature)
        ahead = acting.ahead()
        next_in_BI = torch.cat([steps.next_obs_BD, ahead.action_BA], 1)
        next_B = torch.min(*(forward(net, next_in_BI)[-1] for net in self.targets)).squeeze(1)
        soft_B = next_B - temperature * ahead.log_prob_B
        target_B = target(steps.reward_B, steps.terminal_B, soft_B, discount)
        return acting, Judging(torch.cat([steps.obs_BD, steps.action_BA], 1), target_B)

    def _improve_critics(self, judging: Judging, lr: float) -> Tensor:
        """Take a step down their loss. Return both critics' errors, one behind the other."""
        if self.taught_critics:
            grads = self.taught_critics.slopes(judging)
            errors = self.taught_critics.student.told
        else:
            both = judging.target_B, judging.target_B
            grads, errors = critic_slopes(self.critics, judging.seen_BI, both)
        self.critic_adam.step(grads, lr)
        return torch.cat(errors)

    def _improve_actor(self, acting: Acting, lr: float) -> Tensor:
        """Take a step down its loss. Return what the lower critic says of its actions."""
        if self.taught_actor:
            # The critics' step did not touch the actor, though it counts as a write to all weights.
            acting = acting._replace(version=self.weights._version)  # noqa: SLF001
            grads, value_B = self.taught_actor.slopes(acting), self.taught_actor.student.told
        else:
            grads, value_B = actor_slopes(self.actor, self.critics, acting)
        self.actor_adam.step(grads, lr)
        return value_B

    def state(self) -> dict[str, Mapping[str, Tensor]]:
        nets = {
            "weights": self.weights,
            "targets": self.targets_flat,
            "log_temperature": self.log_temperature,
            "updates": torch.tensor(self.updates),
        }
        adams = {name: adam.state() for name, adam in self._adams().items()}
        return {"nets": nets, **adams, **{k: m.state() for k, m in self._methods().items()}}

    def load(self, state: Mapping[str, Mapping[str, Tensor]]) -> None:
        self.weights.copy_(state["nets"]["weights"])
        self.targets_flat.copy_(state["nets"]["targets"])
        self.log_temperature.copy_(state["nets"]["log_temperature"])
        self.updates = int(state["nets"]["updates"])
        for name, adam in self._adams().items():
            adam.load(state[name])
        for name, method in self._methods().items():
            method.load(state.get(name, {}))

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

    def _methods(self) -> dict[str, Method]:
        both = {"actor-method": self.taught_actor, "critic-method": self.taught_critics}
        return {name: one.method for name, one in both.items() if one}


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
