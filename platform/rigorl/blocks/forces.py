"""Forces: squashed into what a port allows, or drawn at random.

Shapes: T steps, E environments, F numbers of a force, B batch.
"""

import math
from typing import Annotated, Any, Literal

import numpy as np
import torch
from msgspec import Meta, Struct
from numpy.typing import NDArray

Array = NDArray[Any]
TINY = 1e-12


def squash(push_BF: Array, limit: float) -> Array:
    """Return force_BF, in the direction of *push*, with the norm limit * tanh |push|.

    A ball is mapped to a ball: no axis is stronger than another, no norm exceeds *limit*.
    """
    norm_B1 = np.sqrt(np.add.reduce(np.square(push_BF), 1, keepdims=True)) + TINY
    force_BF: Array = push_BF * (limit * np.tanh(norm_B1) / norm_B1)
    return force_BF


def log_volume(push_BF: Array, limit: float) -> Array:
    """Return log |det d force / d push| of `squash`: log_prob(force) = log_prob(push) - this.

    Along *push* the slope is limit / cosh^2 |push|, and limit * tanh |push| / |push| across it.
    """
    norm_B = np.sqrt(np.add.reduce(np.square(push_BF), 1)) + TINY
    # log cosh x = x + log1p(exp(-2 x)) - log 2, which does not overflow.
    along_B = -2 * (norm_B + np.log1p(np.exp(-2 * norm_B)) - np.log(2.0))
    across_B = np.log(np.tanh(norm_B) / norm_B)
    size = push_BF.shape[1]
    volume_B: Array = along_B + (size - 1) * across_B + size * np.log(limit)
    return volume_B


class Random(Struct, frozen=True, forbid_unknown_fields=True):
    """Forces that nobody chooses. `scale` is a share of what is allowed."""

    scale: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """Radius of the ball from which `ball` draws, evenly; deviation of each number of `normal`,
    whose norm is cut at what is allowed."""
    hold: Annotated[int, Meta(gt=0)] = 1
    """Steps for which a force stays what it is."""
    kind: Literal["ball", "normal"] = "ball"

    def draw(self, shape: tuple[int, int, int], generator: torch.Generator) -> Array:
        """Return force_TEF of the given *shape*, in units of what is allowed."""
        steps, count, size = shape
        draws = math.ceil(steps / self.hold)
        way_TEF = torch.randn(draws, count, size, generator=generator).numpy()
        radius_TE1 = torch.rand(draws, count, 1, generator=generator).numpy() ** (1 / size)
        norm_TE1 = np.linalg.norm(way_TEF, axis=2, keepdims=True) + TINY
        if self.kind == "ball":
            force_TEF: Array = way_TEF / norm_TE1 * (radius_TE1 * self.scale)
        else:
            force_TEF = way_TEF * np.minimum(self.scale, 1 / norm_TE1)
        return np.repeat(force_TEF, self.hold, 0)[:steps]
