"""An actor and a critic under the clipped surrogate, in NumPy, with the gradient written out.

The same mathematics as `actor_critic.Autograd`, whose losses are the readable ones, and the
same weights, in the same memory. A minibatch of 64 (two 64-64 networks) takes 0.09 to 0.11 ms
here with its step of Adam, and 0.44 ms by autograd.

Shapes: B batch, D observation, A action.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from rigorl.blocks.actor_critic import Losses, Terms
from rigorl.blocks.actors import HALF_LOG_TAU, Actor, GaussianActor
from rigorl.blocks.dense import Dense, grad_of
from rigorl.blocks.rollout import Batch

Array = NDArray[Any]


class Written:
    """Made after `flatten` has taken over the weights of *actor* and *critic*."""

    def __init__(self, actor: Actor, critic: nn.Sequential, terms: Terms) -> None:
        self.head = Normal(actor) if isinstance(actor, GaussianActor) else Softmax(actor.logits)
        self.critic, self.terms = Dense(critic), terms

    def act(self, obs_BD: Array, noise_BA: Array) -> Array:
        return self.head.act(obs_BD, noise_BA)

    def value(self, obs_BD: Array) -> Array:
        value_B: Array = self.critic(obs_BD)[:, 0].copy()
        return value_B

    def log_prob(self, obs_BD: Array, action: Array) -> Array:
        return self.head.judge(obs_BD, action)[0]

    def hold(self, batch: Batch[Array]) -> Batch[Array]:
        return batch

    def order(self, order_B: Tensor) -> Array:
        order: Array = order_B.numpy()
        return order

    def standard(self, advantage_B: Array) -> Array:
        if self.terms.normalize_advantage and len(advantage_B) > 1:
            return standardized(advantage_B)
        return advantage_B

    def gradient(self, batch: Batch[Array], clip: float) -> Losses:
        terms, size = self.terms, len(batch.advantage_B)
        log_prob_B, entropy = self.head.judge(batch.obs_BD, batch.action)
        gain_B, clipped_B = self._gains(batch, log_prob_B, clip)
        # d surrogate / d log_prob is the gain where that is not clipped away, for
        # d ratio / d log_prob = ratio.
        slope_B = np.multiply(gain_B, gain_B <= clipped_B)
        slope_B *= -1 / size
        self.head.backward(batch.obs_BD, slope_B, terms.entropy_coef)
        error_B = np.subtract(self.critic(batch.obs_BD)[:, 0], batch.return_B)
        value_loss = float(np.dot(error_B, error_B)) / size
        error_B *= 2 * terms.value_coef / size
        self.critic.backward(batch.obs_BD, error_B[:, None])
        surrogate = float(np.add.reduce(np.minimum(gain_B, clipped_B))) / size
        return Losses(-surrogate, value_loss, entropy)

    def answers(self, obs_BD: Array) -> tuple[Array, ...]:
        return *self.head.describe(obs_BD), self.value(obs_BD)

    def recall(self, obs_BD: Array, told: Sequence[Array]) -> float:
        *said, value_B = told
        kl = self.head.recall(obs_BD, said)
        error_B = np.subtract(self.critic(obs_BD)[:, 0], value_B)
        value_loss = float(np.dot(error_B, error_B)) / len(error_B)
        error_B *= 2 * self.terms.value_coef / len(error_B)
        self.critic.backward(obs_BD, error_B[:, None])
        return kl + self.terms.value_coef * value_loss

    def fisher(self, obs_BD: Array) -> None:
        self.head.square(obs_BD)
        value_B1 = self.critic(obs_BD)
        self.critic.square(obs_BD, [np.ones_like(value_B1)])

    def assess(self, batch: Batch[Array], clip: float) -> tuple[Losses, Array]:
        log_prob_B, entropy = self.head.judge(batch.obs_BD, batch.action)
        surrogate = np.minimum(*self._gains(batch, log_prob_B, clip)).mean()
        error_B = self.value(batch.obs_BD) - batch.return_B
        return Losses(-float(surrogate), float(np.square(error_B).mean()), entropy), log_prob_B

    def _gains(self, batch: Batch[Array], log_prob_B: Array, clip: float) -> tuple[Array, Array]:
        """Return ratio * advantage, and the same with the ratio clipped."""
        advantage_B = self.standard(batch.advantage_B)
        ratio_B = np.subtract(log_prob_B, batch.log_prob_B)
        np.exp(ratio_B, out=ratio_B)
        clipped_B = np.minimum(np.maximum(ratio_B, 1 - clip), 1 + clip)
        return np.multiply(ratio_B, advantage_B, out=ratio_B), clipped_B * advantage_B


def standardized(rows_B: Array) -> Array:
    """Return *rows_B* with mean 0 and standard deviation 1 (that of a sample, as in torch)."""
    # np.mean and np.std cost ten times their sums.
    size = len(rows_B)
    centred_B: Array = rows_B - np.add.reduce(rows_B) / size
    std = (float(np.dot(centred_B, centred_B)) / (size - 1)) ** 0.5
    centred_B *= 1 / (std + 1e-8)
    return centred_B


class Normal:
    """Actions of a `GaussianActor`."""

    def __init__(self, actor: GaussianActor) -> None:
        self.mean = Dense(actor.mean)
        self.log_std_A: Array = actor.log_std_A.detach().numpy()
        self.log_std_grad_A = grad_of(actor.log_std_A)
        self._std_A = self._z_BA = np.empty(0, np.float32)

    def act(self, obs_BD: Array, noise_BA: Array) -> Array:
        action_BA: Array = self.mean(obs_BD) + noise_BA * np.exp(self.log_std_A)
        return action_BA

    def judge(self, obs_BD: Array, action_BA: Array) -> tuple[Array, float]:
        """Return log_prob_B, and the mean entropy; keep what `backward` needs."""
        count = len(self.log_std_A)
        self._std_A = np.exp(self.log_std_A)
        z_BA = np.subtract(action_BA, self.mean(obs_BD))
        z_BA /= self._std_A
        self._z_BA = z_BA
        spread = float(np.add.reduce(self.log_std_A)) + HALF_LOG_TAU * count
        log_prob_B: Array = np.add.reduce(np.square(z_BA), 1)
        log_prob_B *= -0.5
        log_prob_B -= spread
        return log_prob_B, spread + 0.5 * count

    def backward(self, obs_BD: Array, slope_B: Array, entropy_coef: float) -> None:
        """Set the gradient, *slope_B* being the derivative of the loss by log_prob_B.

        d log_prob / d mean = z / std, d log_prob / d log_std = z^2 - 1.
        """
        slope_BA = self._z_BA * slope_B[:, None]
        np.add.reduce(slope_BA * self._z_BA, 0, out=self.log_std_grad_A)
        self.log_std_grad_A -= np.add.reduce(slope_B) + entropy_coef
        slope_BA /= self._std_A
        self.mean.backward(obs_BD, slope_BA)

    def describe(self, obs_BD: Array) -> tuple[Array, ...]:
        mean_BA: Array = self.mean(obs_BD).copy()
        return mean_BA, np.broadcast_to(self.log_std_A, mean_BA.shape).copy()

    def recall(self, obs_BD: Array, told: Sequence[Array]) -> float:
        """Return the mean KL from *told*, and set its gradient.

        d KL / d mean = gap / std^2, d KL / d log_std = 1 - (told std^2 + gap^2) / std^2.
        """
        mean_BA, log_std_BA = told
        gap_BA = self.mean(obs_BD) - mean_BA
        precision_A = np.exp(-2 * self.log_std_A)
        square_BA = (np.exp(2 * log_std_BA) + np.square(gap_BA)) * precision_A
        kl_BA = self.log_std_A - log_std_BA + 0.5 * square_BA - 0.5
        np.add.reduce((1 - square_BA) / len(obs_BD), 0, out=self.log_std_grad_A)
        self.mean.backward(obs_BD, gap_BA * (precision_A / len(obs_BD)))
        return float(np.add.reduce(kl_BA, None)) / len(obs_BD)

    def square(self, obs_BD: Array) -> None:
        """Set the gradient to the mean square of that of log_prob, expected over its actions.

        E z^2 = 1, E (z^2 - 1)^2 = 2, and the z of two actions have nothing to do with each other.
        """
        mean_BA = self.mean(obs_BD)
        std_A: Array = np.exp(self.log_std_A)
        one_AA = np.eye(len(std_A), dtype=np.float32) / std_A
        self.mean.square(obs_BD, (np.broadcast_to(row_A, mean_BA.shape) for row_A in one_AA))
        self.log_std_grad_A.fill(2.0)


class Softmax:
    """Choices of a `CategoricalActor`."""

    def __init__(self, logits: nn.Sequential) -> None:
        self.logits = Dense(logits)
        self._log_prob_BA = self._prob_BA = np.empty((0, 0), np.float32)
        self._action_B = np.empty(0, np.int64)
        self._entropy_B = np.empty(0, np.float32)

    def act(self, obs_BD: Array, noise_BA: Array) -> Array:
        action_B: Array = np.add(self.logits(obs_BD), noise_BA).argmax(1)
        return action_B

    def judge(self, obs_BD: Array, action_B: Array) -> tuple[Array, float]:
        """Return log_prob_B, and the mean entropy; keep what `backward` needs."""
        logits_BA = self.logits(obs_BD)
        log_prob_BA, prob_BA = softmax(logits_BA)
        self._log_prob_BA, self._prob_BA, self._action_B = log_prob_BA, prob_BA, action_B
        self._entropy_B = -np.add.reduce(prob_BA * log_prob_BA, 1)
        entropy = float(np.add.reduce(self._entropy_B)) / len(action_B)
        return log_prob_BA[np.arange(len(action_B)), action_B], entropy

    def backward(self, obs_BD: Array, slope_B: Array, entropy_coef: float) -> None:
        """Set the gradient, *slope_B* being the derivative of the loss by log_prob_B.

        d log_prob / d logit_j = [j is the action] - prob_j, and
        d entropy / d logit_j = -prob_j (log_prob_j + entropy).
        """
        size = len(slope_B)
        slope_BA = self._prob_BA * -slope_B[:, None]
        slope_BA[np.arange(size), self._action_B] += slope_B
        if entropy_coef:
            gap_BA = self._log_prob_BA + self._entropy_B[:, None]
            slope_BA += gap_BA * self._prob_BA * (entropy_coef / size)
        self.logits.backward(obs_BD, slope_BA)

    def describe(self, obs_BD: Array) -> tuple[Array, ...]:
        return (softmax(self.logits(obs_BD))[0],)

    def recall(self, obs_BD: Array, told: Sequence[Array]) -> float:
        """Return the mean KL from *told*, and set its gradient.

        d KL / d logit = prob - told prob.
        """
        (told_BA,) = told
        log_prob_BA, prob_BA = softmax(self.logits(obs_BD))
        told_prob_BA = np.exp(told_BA)
        kl_BA = told_prob_BA * (told_BA - log_prob_BA)
        slope_BA: Array = (prob_BA - told_prob_BA) / len(obs_BD)
        self.logits.backward(obs_BD, slope_BA)
        return float(np.add.reduce(kl_BA, None)) / len(obs_BD)

    def square(self, obs_BD: Array) -> None:
        """Set the gradient to the mean square of that of log_prob, expected over its actions."""
        _, prob_BA = softmax(self.logits(obs_BD))
        self.logits.square(obs_BD, _each(prob_BA))


def softmax(logits_BA: Array) -> tuple[Array, Array]:
    """Return log_prob_BA and prob_BA."""
    log_prob_BA = logits_BA - np.maximum.reduce(logits_BA, 1, keepdims=True)
    prob_BA = np.exp(log_prob_BA)
    sum_B1 = np.add.reduce(prob_BA, 1, keepdims=True)
    prob_BA /= sum_B1
    log_prob_BA -= np.log(sum_B1)
    return log_prob_BA, prob_BA


def _each(prob_BA: Array) -> Iterator[Array]:
    """Yield the slopes of the log_prob of each choice, times the root of how likely it is."""
    for row_A, root_B in zip(np.eye(prob_BA.shape[1]), np.sqrt(prob_BA).T, strict=True):
        yield root_B[:, None] * np.subtract(row_A, prob_BA, dtype=np.float32)
