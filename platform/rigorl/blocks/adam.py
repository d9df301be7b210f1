"""Adam on one long vector.

Tiny networks are slow for the number of kernels, not for arithmetic. With all weights in one
vector, clipping and Adam are a dozen kernels instead of a loop over tensors.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

BETA1, BETA2 = 0.9, 0.999


class Adam:
    """Kingma, Ba 2015, algorithm 1, after clipping the gradient to a norm.

    Takes over the storage of the weights: they become parts of `weights`, their gradients
    parts of `grad`. Write into these, and never replace them.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], eps: float) -> None:
        parts = list(parameters)
        self.eps, self.steps = eps, 0
        self.weights = torch.cat([part.detach().flatten() for part in parts])
        self.grad = torch.zeros_like(self.weights)
        self.mean = torch.zeros_like(self.weights)
        self.square = torch.zeros_like(self.weights)
        self._room = np.empty((2, len(self.weights)), np.float32)
        sizes = [part.numel() for part in parts]
        for part, weight, grad in zip(
            parts, torch.split(self.weights, sizes), torch.split(self.grad, sizes), strict=True
        ):
            part.data, part.grad = weight.view_as(part), grad.view_as(part)

    def step(self, lr: float, max_norm: float) -> None:
        """Follow `grad`, shortened to *max_norm*, and set it to zero."""
        self.steps += 1
        rate, spread = lr / (1 - BETA1**self.steps), (1 - BETA2**self.steps) ** 0.5
        if self.weights.is_cpu:
            self._step_here(rate, spread, max_norm)
        else:
            self._step_there(rate, spread, max_norm)

    def _step_here(self, rate: float, spread: float, max_norm: float) -> None:
        """Take the step in NumPy: in half of the time, for vectors of ten thousand."""
        weights, grad, mean, square = (
            part.numpy() for part in (self.weights, self.grad, self.mean, self.square)
        )
        share, step = self._room
        norm = float(np.dot(grad, grad)) ** 0.5
        np.multiply(grad, min(1.0, max_norm / (norm + 1e-6)), out=grad)
        np.multiply(mean, BETA1, out=mean)
        np.add(mean, np.multiply(grad, 1 - BETA1, out=share), out=mean)
        np.multiply(grad, grad, out=share)
        np.multiply(square, BETA2, out=square)
        np.add(square, np.multiply(share, 1 - BETA2, out=share), out=square)
        np.multiply(np.sqrt(square, out=share), 1 / spread, out=share)
        np.divide(mean, np.add(share, self.eps, out=share), out=step)
        np.subtract(weights, np.multiply(step, rate, out=step), out=weights)
        grad.fill(0.0)

    def _step_there(self, rate: float, spread: float, max_norm: float) -> None:
        """Take the same step in torch, on whatever device the weights are."""
        grad = self.grad.mul_((max_norm / (self.grad.norm() + 1e-6)).clamp_(max=1.0))
        self.mean.lerp_(grad, 1 - BETA1)
        self.square.mul_(BETA2).addcmul_(grad, grad, value=1 - BETA2)
        self.weights.addcdiv_(
            self.mean, self.square.sqrt().div_(spread).add_(self.eps), value=-rate
        )
        self.grad.zero_()

    def forget(self) -> None:
        """Begin anew from the present weights."""
        self.steps = 0
        self.mean.zero_()
        self.square.zero_()

    def state(self) -> dict[str, Tensor]:
        moments = {"weights": self.weights, "mean": self.mean, "square": self.square}
        return {**moments, "steps": torch.tensor(self.steps)}

    def load(self, state: dict[str, Tensor]) -> None:
        self.weights.copy_(state["weights"])
        self.mean.copy_(state["mean"])
        self.square.copy_(state["square"])
        self.steps = int(state["steps"])
