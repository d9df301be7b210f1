"""An actor and a critic under the clipped surrogate of PPO, as torch computes them.

This is the reference: losses as they read in the paper, gradients by autograd, on any device.
`written.py` computes the same in NumPy, its gradients written out; the tests hold the two
together.

Shapes: B batch, D observation, A action.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from rigorl.blocks.actors import Actor, GaussianActor
from rigorl.blocks.adam import Flat
from rigorl.blocks.rollout import Batch, Rollout

Array = NDArray[Any]
AT_ONCE = 64
"""Rows whose gradients are held at the same time."""


class Losses(NamedTuple):
    """Of the actor, of the critic, and the mean entropy of the actor's choices."""

    policy: float
    value: float
    entropy: float


class Terms(NamedTuple):
    """What is minimised: policy + value_coef * value - entropy_coef * entropy."""

    value_coef: float
    entropy_coef: float
    normalize_advantage: bool

    def total(self, losses: Losses) -> float:
        return losses.policy + self.value_coef * losses.value - self.entropy_coef * losses.entropy


class ActorCritic(Protocol):
    """Two networks, whoever computes them. Arrays in and out, on the CPU."""

    terms: Terms

    def act(self, obs_BD: Array, noise_BA: Array) -> Array:
        """Return the actions that *noise_BA* makes of what the actor would do."""

    def value(self, obs_BD: Array) -> Array:
        """Return value_B."""

    def log_prob(self, obs_BD: Array, action: Array) -> Array:
        """Return log_prob_B of the actions."""

    def hold(self, batch: Batch[Array]) -> Batch[Any]:
        """Return *batch* where it can be learned from: `gradient` and `assess` take its rows."""

    def order(self, order_B: Tensor) -> Any:
        """Return *order_B* as an index into what `hold` returned."""

    def standard(self, advantage_B: Any) -> Any:
        """Return them with mean 0 and deviation 1, if that is asked for and there are two."""

    def gradient(self, batch: Batch[Any], clip: float) -> Losses:
        """Return the losses, and leave the gradient of their total in `Flat.grad`."""

    def assess(self, batch: Batch[Any], clip: float) -> tuple[Losses, Array]:
        """Return the losses, and log_prob_B of the actions, as they are now."""

    def answers(self, obs_BD: Any) -> tuple[Any, ...]:
        """Return what the actor would do (see `describe` of actors), and value_B, as copies.

        Here and below *obs_BD* and answers lie where `hold` puts rows.
        """

    def recall(self, obs_BD: Any, told: Sequence[Any]) -> float:
        """Return how far the answers are from *told*, and leave the gradient in `Flat.grad`.

        Mean KL(told || now) of the actor + value_coef * mean squared error of the critic.
        """

    def fisher(self, obs_BD: Any) -> None:
        """Leave in `Flat.grad` the mean over rows of squared gradients of the log-likelihood.

        Of the actor's own actions, expected rather than drawn; of a value that is normal with
        the critic's as its mean, and a variance of 1.
        """


class Autograd:
    def __init__(self, actor: Actor, critic: nn.Module, flat: Flat, terms: Terms) -> None:
        self.actor, self.critic, self.terms = actor, critic, terms
        self.grad, self.device = flat.grad, flat.grad.device

    @torch.no_grad()
    def act(self, obs_BD: Array, noise_BA: Array) -> Array:
        action: Array = self.actor.act(self._there(obs_BD), self._there(noise_BA)).cpu().numpy()
        return action

    @torch.no_grad()
    def value(self, obs_BD: Array) -> Array:
        value_B: Array = self.critic(self._there(obs_BD)).squeeze(-1).cpu().numpy()
        return value_B

    @torch.no_grad()
    def log_prob(self, obs_BD: Array, action: Array) -> Array:
        log_prob_B, _ = self.actor.judge(self._there(obs_BD), self._there(action))
        return log_prob_B.cpu().numpy()

    def hold(self, batch: Batch[Array]) -> Batch[Tensor]:
        return Batch(*(self._there(rows) for rows in batch))

    def order(self, order_B: Tensor) -> Tensor:
        return order_B.to(self.device)

    def standard(self, advantage_B: Tensor) -> Tensor:
        if self.terms.normalize_advantage and len(advantage_B) > 1:
            std, mean = torch.std_mean(advantage_B)
            advantage_B = (advantage_B - mean) / (std + 1e-8)
        return advantage_B

    def gradient(self, batch: Batch[Tensor], clip: float) -> Losses:
        policy_loss, value_loss, entropy, _ = self._losses(batch, clip)
        terms = self.terms
        loss = policy_loss + terms.value_coef * value_loss - terms.entropy_coef * entropy
        self.grad.zero_()
        loss.backward()  # type: ignore[no-untyped-call]
        return Losses(policy_loss.item(), value_loss.item(), entropy.item())

    @torch.no_grad()
    def assess(self, batch: Batch[Tensor], clip: float) -> tuple[Losses, Array]:
        *losses, log_prob_B = self._losses(batch, clip)
        return Losses(*(loss.item() for loss in losses)), log_prob_B.cpu().numpy()

    @torch.no_grad()
    def answers(self, obs_BD: Tensor) -> tuple[Tensor, ...]:
        answers = *self.actor.describe(obs_BD), self.critic(obs_BD).squeeze(-1)
        return tuple(answer.clone() for answer in answers)

    def recall(self, obs_BD: Tensor, told: Sequence[Tensor]) -> float:
        *said, value_B = told
        kl = self.actor.divergence(said, obs_BD).mean()
        value_loss = torch.nn.functional.mse_loss(self.critic(obs_BD).squeeze(-1), value_B)
        loss = kl + self.terms.value_coef * value_loss
        self.grad.zero_()
        loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.item())

    @torch.no_grad()
    def fisher(self, obs_BD: Tensor) -> None:
        self.grad.zero_()
        _square(self.critic, lambda value: value, obs_BD)
        if isinstance(self.actor, GaussianActor):
            _square(self.actor.mean, self.actor.root, obs_BD)
            self.actor.log_std_A.grad.fill_(2.0)  # type: ignore[union-attr]  # E (z^2 - 1)^2
        else:
            _square(self.actor.logits, self.actor.root, obs_BD)

    def _losses(self, batch: Batch[Tensor], clip: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return what to minimise for the actor and for the critic, the entropy, log_prob_B."""
        log_prob_B, entropy = self.actor.judge(batch.obs_BD, batch.action)
        advantage_B = self.standard(batch.advantage_B)
        ratio_B = torch.exp(log_prob_B - batch.log_prob_B)
        value_B = self.critic(batch.obs_BD).squeeze(-1)
        value_loss = torch.nn.functional.mse_loss(value_B, batch.return_B)
        return -surrogate(ratio_B, advantage_B, clip), value_loss, entropy, log_prob_B

    def _there(self, array: Array) -> Tensor:
        return torch.from_numpy(array).to(self.device)


def judged(
    net: ActorCritic, rollout: Rollout, last_ED: Array, discount: float, trace: float
) -> Batch[Array]:
    """Return *rollout*, which led to *last_ED*, as *net* is to learn from it."""
    shape, action_TE = rollout.done_TE.shape, rollout.action_TE
    obs_BD = rollout.obs_TED.reshape(-1, last_ED.shape[1])
    action = action_TE.reshape(-1, *action_TE.shape[2:])
    value_TE = net.value(obs_BD).reshape(shape)
    advantage_TE = rollout.advantages(value_TE, net.value(last_ED), discount, trace)
    return Batch(
        obs_BD,
        action,
        net.log_prob(obs_BD, action),
        advantage_TE.reshape(-1),
        (advantage_TE + value_TE).reshape(-1),
    )


def assessed(net: ActorCritic, batch: Batch[Array], clip: float) -> dict[str, float]:
    """Return what has become of *batch*, a whole rollout, by learning from it."""
    losses, log_prob_B = net.assess(net.hold(batch), clip)
    log_ratio_B = log_prob_B - batch.log_prob_B
    metrics = {
        "policy_loss": losses.policy,
        "value_loss": losses.value,
        "entropy": losses.entropy,
        "approx_kl": divergence(log_ratio_B),
        "clip_fraction": float((np.abs(np.expm1(log_ratio_B)) > clip).mean()),
    }
    spread = float(batch.return_B.var())
    if spread > 0:  # else there is nothing to explain
        # By the critic as it was before: its errors are the advantages.
        metrics["explained_variance"] = 1 - float(batch.advantage_B.var()) / spread
    return metrics


def surrogate(ratio_B: Tensor, advantage_B: Tensor, clip: float) -> Tensor:
    """Return what the actor maximises: Schulman et al. 2017, equation 7."""
    clipped_B = ratio_B.clamp(1 - clip, 1 + clip)
    return torch.min(ratio_B * advantage_B, clipped_B * advantage_B).mean()


def _square(net: nn.Module, root: Callable[[Tensor], Tensor], obs_BD: Tensor) -> None:
    """Add to the gradients of *net* the mean over rows of squared gradients of all roots."""
    weights = dict(net.named_parameters())

    def roots(weights: dict[str, Tensor], obs_D: Tensor) -> Tensor:
        return root(functional_call(net, weights, (obs_D,)))

    slopes = vmap(jacrev(roots), (None, 0))
    for few_BD in torch.split(obs_BD, AT_ONCE):
        for name, slope_BR in slopes(weights, few_BD).items():
            squares = slope_BR.square().sum((0, 1))
            weights[name].grad.add_(squares, alpha=1 / len(obs_BD))  # type: ignore[union-attr]


def divergence(log_ratio_B: Array) -> float:
    """Estimate KL(old || new) from log(new / old) of actions of the old policy.

    Unbiased and never negative (Schulman 2020, "Approximating KL Divergence").
    """
    return float((np.expm1(log_ratio_B) - log_ratio_B).mean())
