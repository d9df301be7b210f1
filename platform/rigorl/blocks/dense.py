"""The tanh network of nets.py in NumPy, its gradient written out.

Tiny networks are slow for the number of kernels and what is done around each, not for
arithmetic. Here a network's output and its gradient are a dozen NumPy calls into arrays that
are there already; torch, asked the same, needs several times as long. The weights are those of
the torch module, in the same memory.

Shapes: B batch, I inputs, O outputs of a layer.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

Array = NDArray[np.float32]
ROOMS = 8
"""Sizes of batches that room is kept for: a learner has three or four, and some odd ones."""

# As for torch in nets.py: one trial, one core, and sums in one order everywhere.
threadpool_limits(1, user_api="blas")


class Layer(NamedTuple):
    """Weights of a linear layer, and where their gradients go."""

    weight_OI: Array
    bias_O: Array
    weight_grad_OI: Array
    bias_grad_O: Array


class Scratch(NamedTuple):
    """Room for a batch of one size. What `Dense` returns lies here until it is called again."""

    outs: tuple[Array, ...]
    """The output of each layer, the activation included."""
    errors: tuple[Array, ...]
    """The derivative by the sums that each layer adds up."""
    slopes: tuple[Array, ...]
    ones_B: Array


class Dense:
    """A network made by `mlp`, whose weights and gradients `flatten` has taken over."""

    def __init__(self, net: nn.Sequential) -> None:
        linear = [layer for layer in net if isinstance(layer, nn.Linear)]
        self.layers = [
            Layer(
                layer.weight.detach().numpy(),
                layer.bias.detach().numpy(),
                grad_of(layer.weight),
                grad_of(layer.bias),
            )
            for layer in linear
        ]
        self._scratch: dict[int, Scratch] = {}

    def __call__(self, x_BI: Array) -> Array:
        """Return y_BO. It, and what `backward` needs, last until the next call of this size."""
        outs = self._room(len(x_BI)).outs
        for layer, out_BO in zip(self.layers, outs, strict=True):
            np.dot(x_BI, layer.weight_OI.T, out=out_BO)
            np.add(out_BO, layer.bias_O, out=out_BO)
            if out_BO is not outs[-1]:
                np.tanh(out_BO, out=out_BO)
            x_BI = out_BO
        return x_BI

    def backward(self, x_BI: Array, slope_BO: Array) -> None:
        """Set the weights' gradients, given the derivative of a loss by the output for *x_BI*.

        *x_BI* is what the network was called with last, among batches of this size.
        """
        outs, errors, slopes, ones_B = self._room(len(x_BI))
        error_BO = slope_BO
        for i in reversed(range(len(self.layers))):
            layer, below_BI = self.layers[i], outs[i - 1] if i else x_BI
            np.dot(error_BO.T, below_BI, out=layer.weight_grad_OI)
            np.dot(ones_B, error_BO, out=layer.bias_grad_O)
            if i:  # through the tanh below: its derivative is 1 - tanh^2
                np.multiply(below_BI, below_BI, out=slopes[i - 1])
                np.subtract(1.0, slopes[i - 1], out=slopes[i - 1])
                np.dot(error_BO, layer.weight_OI, out=errors[i - 1])
                error_BO = np.multiply(errors[i - 1], slopes[i - 1], out=errors[i - 1])

    def square(self, x_BI: Array, slopes: Iterable[Array]) -> None:
        """Set the gradients to the mean square of what they are for each row alone.

        So with each of *slopes*, as of `backward`, and the squares are added. What a row adds to
        a weight's gradient is its error times its input.
        """
        outs, errors, *_ = self._room(len(x_BI))
        grads = [grad for layer in self.layers for grad in layer[2:]]
        totals = [np.zeros_like(grad) for grad in grads]
        for slope_BO in slopes:
            self.backward(x_BI, slope_BO)
            belows, aboves = (x_BI, *outs[:-1]), (*errors, slope_BO)
            for i, (below_BI, error_BO) in enumerate(zip(belows, aboves, strict=True)):
                square_BO = np.square(error_BO)
                totals[2 * i] += np.dot(square_BO.T, np.square(below_BI))
                totals[2 * i + 1] += np.add.reduce(square_BO, 0)
        for grad, total in zip(grads, totals, strict=True):
            np.divide(total, len(x_BI), out=grad)

    def _room(self, size: int) -> Scratch:
        room = self._scratch.get(size)
        if room is None:
            if len(self._scratch) == ROOMS:
                self._scratch.clear()
            widths = [len(layer.bias_O) for layer in self.layers]
            outs, errors, slopes = (
                tuple(np.empty((size, width), np.float32) for width in part)
                for part in (widths, widths[:-1], widths[:-1])
            )
            room = self._scratch[size] = Scratch(outs, errors, slopes, np.ones(size, np.float32))
        return room


def grad_of(parameter: Tensor) -> Array:
    """Return the gradient of *parameter*, which `flatten` must have taken over, as an array."""
    if parameter.grad is None:
        raise ValueError("a parameter must have been flattened before")
    grad: Array = parameter.grad.numpy()
    return grad
