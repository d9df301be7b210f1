"""ReLU networks whose gradients are written out: only those are computed that are needed.

A network is a list of layers, parts of one long vector. B rows, I inputs, O outputs.

Products of matrices go to oneDNN where it is there. It takes 0.15 ms for 256 x 256 x 256 on one
AVX-512 core of an AMD EPYC, and MKL, which `torch.mm` calls, 0.31 ms: MKL uses AVX-512 on
Intel's processors only.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

torch.set_num_threads(1)  # for the reason given in blocks/nets.py

FEW_ROWS = 8
"""Below so many rows, as where one acts, a call of oneDNN costs more than it saves."""
# Public, but for its name: what `torch.compile` makes of a linear layer on a processor.
_LINEAR = (
    getattr(torch.ops.mkldnn, "_linear_pointwise", None)
    if torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    else None
)
_MASK = torch.ops.aten.threshold_backward.grad_input


class Layer(NamedTuple):
    weight_OI: Tensor
    bias_O: Tensor


Net = Sequence[Layer]


def widths(sizes: Sequence[int]) -> list[int]:
    """Return the lengths of the weights and biases of a network through *sizes*."""
    return [n for n_in, n_out in pairwise(sizes) for n in (n_in * n_out, n_out)]


def carve(flat: Tensor, sizes: Sequence[int]) -> Net:
    """Return the network through *sizes* whose parameters are the parts of *flat*."""
    parts = torch.split(flat, widths(sizes))
    shapes = pairwise(sizes)
    return [
        Layer(weight.view(n_out, n_in), bias)
        for weight, bias, (n_in, n_out) in zip(parts[::2], parts[1::2], shapes, strict=True)
    ]


def parameters(nets: Iterable[Net]) -> list[Tensor]:
    """Return the tensors of *nets*, in the order of `weight_slopes`."""
    return [tensor for net in nets for layer in net for tensor in layer]


def initialise(net: Net, generator: torch.Generator) -> None:
    """Draw parameters as `torch.nn.Linear` does: uniform up to 1 / sqrt(inputs)."""
    for layer in net:
        bound = 1 / math.sqrt(layer.weight_OI.shape[1])
        for tensor in layer:
            tensor.uniform_(-bound, bound, generator=generator)


def forward(net: Net, x_BI: Tensor) -> list[Tensor]:
    """Return what goes into each layer, and at last what comes out."""
    through = [x_BI]
    for layer in net[:-1]:
        through.append(affine(through[-1], layer, relu=True))
    through.append(affine(through[-1], net[-1], relu=False))
    return through


def slopes(net: Net, through: Sequence[Tensor], slope_BO: Tensor) -> list[Tensor]:
    """Return how the loss changes with each layer's sums, given how with the last one's.

    *through* is what `forward` returned.
    """
    back = [slope_BO]
    for layer, h_BI in zip(reversed(net[1:]), reversed(through[1:-1]), strict=True):
        slope = product(back[-1], layer.weight_OI)
        _MASK(slope, h_BI, 0, grad_input=slope)
        back.append(slope)
    return back[::-1]


def weight_slopes(through: Sequence[Tensor], back: Sequence[Tensor]) -> list[Tensor]:
    """Return the gradient of each parameter, given what `forward` and `slopes` returned."""
    grads = []
    for x_BI, slope_BO in zip(through[:-1], back, strict=True):
        grads += [_weight_slope(x_BI, slope_BO), slope_BO.sum(0)]
    return grads


def squared_slopes(through: Sequence[Tensor], back: Sequence[Tensor]) -> list[Tensor]:
    """Return the square of each row's gradient of each parameter, summed over the rows.

    *back* is what `slopes` returned for the loss of each row, not for its part in a mean.
    """
    # A row's gradient of a weight is a product, slope * x: so is its square.
    return weight_slopes([x.square() for x in through], [slope.square() for slope in back])


def _weight_slope(x_BI: Tensor, slope_BO: Tensor) -> Tensor:
    if x_BI.shape[1] < slope_BO.shape[1]:  # oneDNN copies what it gets on its side: the smaller
        return product(x_BI.t(), slope_BO).t().contiguous()
    return product(slope_BO.t(), x_BI)


def affine(x_BI: Tensor, layer: Layer, *, relu: bool) -> Tensor:
    weight_OI, bias_O = layer
    if _LINEAR is not None and x_BI.shape[0] >= FEW_ROWS and weight_OI.shape[0] > 1:
        y_BO: Tensor = _LINEAR(x_BI, weight_OI, bias_O, "relu" if relu else "none", [], "")
        return y_BO
    y_BO = torch.addmm(bias_O, x_BI, weight_OI.t())
    return y_BO.relu_() if relu else y_BO


def product(a: Tensor, b: Tensor) -> Tensor:
    """Return a @ b. *b* must be whole, or turned: one cut out takes oneDNN 50 times as long."""
    if _LINEAR is not None and min(*a.shape, b.shape[1]) > 1:
        c: Tensor = _LINEAR(a, b.t(), None, "none", [], "")
        return c
    return torch.mm(a, b)
