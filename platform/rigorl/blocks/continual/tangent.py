"""How the outputs of a dense network change with its weights, without writing that matrix down.

The Jacobian has a row for each output at each input, R = B * K of them, and a column for each of
the P weights. Of a layer, a row is an outer product of what goes into the layer and how the output
changes with the layer's sums, so products with it need only these two (as in the neural tangent
kernel: Jacot, Gabriel, Hongler 2018).

Shapes: B inputs, K outputs of the network, D inputs and H sums of a layer, R = B * K, P weights.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from rigorl.blocks.layers import Net, forward


class Part(NamedTuple):
    """One layer. Its weights lie before its biases, row by row, in the vector of all weights."""

    input_BD: Tensor
    back_BKH: Tensor
    """How each output changes with each of the layer's sums."""


def traced(
    weights: Sequence[Tensor], inputs: Sequence[Tensor], slopes: Sequence[Tensor], begin: int = 0
) -> "Tangent":
    """Return the tangent of a network, layer by layer: its weight_HD, and its input_BD.

    *slopes* has, of each layer but the last, the derivative_BH of what follows its sums.
    """
    K, device = len(weights[-1]), weights[-1].device
    back_BKH = torch.eye(K, device=device).expand(len(inputs[0]), -1, -1)
    parts = [Part(inputs[-1], back_BKH)]
    for weight_HD, input_BD, slope_BD in zip(
        reversed(weights[1:]), reversed(inputs[:-1]), reversed(slopes), strict=True
    ):
        back_BKH = (back_BKH @ weight_HD) * slope_BD[:, None]
        parts.append(Part(input_BD, back_BKH))
    return Tangent(parts[::-1], begin)


def of_relu(net: Net, input_BD: Tensor, begin: int = 0) -> "Tangent":
    """Return the tangent of a network of `blocks/layers.py`."""
    inputs = forward(net, input_BD)[:-1]
    slopes = [(hidden_BH > 0).float() for hidden_BH in inputs[1:]]
    return traced([layer.weight_OI for layer in net], inputs, slopes, begin)


class Tangent(NamedTuple):
    """A network at some inputs; its weights begin at *begin* of the vector of all weights."""

    parts: Sequence[Part]
    begin: int = 0

    @property
    def size(self) -> int:
        """Weights of the network."""
        return sum((p.input_BD.shape[1] + 1) * p.back_BKH.shape[2] for p in self.parts)

    def kernel(self) -> Tensor:
        """Return J J^T, an R x R matrix."""
        B, K = self.parts[0].back_BKH.shape[:2]
        total = torch.zeros(B, K, B, K, device=self.parts[0].input_BD.device)
        for input_BD, back_BKH in self.parts:
            alike_BB = input_BD @ input_BD.t() + 1.0  # 1: the bias
            back_RH = back_BKH.flatten(0, 1)
            total += alike_BB[:, None, :, None] * (back_RH @ back_RH.t()).view(B, K, B, K)
        return total.view(B * K, B * K)

    def push(self, way_P: Tensor) -> Tensor:
        """Return J way: how far each output goes, to first order, if the weights go that way."""
        total_BK = torch.zeros(self.parts[0].back_BKH.shape[:2], device=way_P.device)
        at = self.begin
        for input_BD, back_BKH in self.parts:
            H, D = back_BKH.shape[2], input_BD.shape[1]
            way_HD, way_H = torch.split(way_P[at : at + H * (D + 1)], [H * D, H])
            sums_BH = input_BD @ way_HD.view(H, D).t() + way_H
            total_BK += torch.einsum("bkh,bh->bk", back_BKH, sums_BH)
            at += H * (D + 1)
        return total_BK.flatten()

    def pull(self, pull_R: Tensor) -> Tensor:
        """Return J^T pull: the way of the network's own weights that pulls outputs so."""
        ways = []
        for input_BD, back_BKH in self.parts:
            weighed_BH = torch.einsum("bk,bkh->bh", pull_R.view(back_BKH.shape[:2]), back_BKH)
            ways += [(weighed_BH.t() @ input_BD).flatten(), weighed_BH.sum(0)]
        return torch.cat(ways)
