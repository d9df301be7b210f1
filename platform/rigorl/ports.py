"""What may be asked for where a task can be disturbed from outside."""

import math
from itertools import combinations
from typing import Annotated, Literal

from msgspec import Meta, Struct

AXES = "xyz"
STEPS = 100
"""What a fall costs, in steps that earn nothing."""
SOME = tuple("".join(some) for n in (1, 2, 3) for some in combinations(AXES, n))


class PortSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a disturber pushes, and how hard it may: all its forces together, as one vector.

    `limit` is the largest norm of that vector: in newtons, or in weights of the whole robot, or, of
    a task that is no robot, in that task's own unit. A force acts at the centre of mass of a body,
    for one control interval; `frame: body` turns with the body. `axes: null` are all along which a
    force can do anything.

    `best` is the reward of a step that leaves nothing to be desired: what a step earns less than
    that is its *cost*, never negative; where `best` is 0 rewards are costs. An episode that ends by
    itself has fallen, which costs `fall` once more: a hundred steps of `best`, if it is left out.
    """

    limit: Annotated[float, Meta(gt=0)]
    best: float
    bodies: tuple[str, ...] = ()
    unit: Literal["newton", "weight"] = "newton"
    frame: Literal["world", "body"] = "world"
    axes: str | None = None
    fall: Annotated[float, Meta(ge=0)] | None = None

    def __post_init__(self) -> None:
        told = self.limit, self.best, self.fall_cost
        if not all(map(math.isfinite, told)):
            raise ValueError(
                "limit, best and fall must be finite, but are "
                f"{self.limit}, {self.best} and {self.fall_cost}; correct them"
            )
        if self.axes is not None and self.axes not in SOME:
            raise ValueError(
                f"axes must be some of x, y and z in that order, but is {self.axes!r}; write xz, "
                "or drop it"
            )
        if len(set(self.bodies)) != len(self.bodies):
            raise ValueError(f"bodies must differ, but are {list(self.bodies)}; drop one")

    @property
    def fall_cost(self) -> float:
        return STEPS * max(self.best, 0.0) if self.fall is None else self.fall
