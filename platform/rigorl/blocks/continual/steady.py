"""Steady: replay, and what is new is learned where it moves nothing that is remembered.

Ours. At a switch the network is right about what it remembers, so the gradient of the loss on that
is next to nothing, and the new task pulls it away until there is something to correct: that is the
stability gap (De Lange, van de Ven, Tuytelaars 2023), and why first-order constraints on the loss
(GEM, A-GEM) do not close it. So here the *answers* are held, not the loss. With J the Jacobian of
the outputs at the remembered rows of this update, the gradient g of the new loss becomes

    g - J^T (J J^T + d I)^-1 J g,

the way nearest to g along which, to first order, these outputs do not move: all of it as the
damping goes to 0, and g itself without bound. It is orthogonal gradient descent (Farajtabar et al.
2020) towards the rows of one update instead of a basis of gradients kept for ever, so that it can
be damped, costs the same however long the sequence is, and the loss on what is remembered still
corrects what drifts: weight * that + (1 - weight) * the gradient on the remembered rows.
"""

from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor

from rigorl.blocks.continual.memory import Keeping, Remembering
from rigorl.blocks.continual.student import Lesson, Student
from rigorl.blocks.continual.tangent import Tangent

Share = Annotated[float, Meta(gt=0, lt=1)]


class Config(Keeping, frozen=True, kw_only=True, tag="steady"):
    weight: Share = 0.5
    """Of the loss on what is new, once something is remembered."""
    damping: Annotated[float, Meta(gt=0)] = 0.5
    """Of the mean of J J^T's diagonal; without bound it is `replay`."""


class Steady(Remembering):
    def __init__(self, config: Config, luck: torch.Generator) -> None:
        super().__init__(config, luck)
        self.config = config

    def gradient(self, student: Student, lesson: Lesson) -> Tensor:
        if lesson.memories is None:
            return student.gradient(lesson.batch)
        new_P = student.gradient(lesson.batch).clone()
        for tangent in student.tangents(lesson.memories):
            own = slice(tangent.begin, tangent.begin + tangent.size)
            new_P[own] -= tangent.pull(held(tangent, new_P, self.config.damping))
        old_P = student.recall(lesson.memories)
        return new_P.mul_(self.config.weight).add_(old_P, alpha=1 - self.config.weight)


def held(tangent: Tangent, way_P: Tensor, damping: float) -> Tensor:
    """Return (J J^T + d I)^-1 J way, with d = *damping* times the mean of J J^T's diagonal."""
    kernel_RR = tangent.kernel()
    diagonal_R = kernel_RR.diagonal()
    diagonal_R += damping * diagonal_R.mean() + 1e-12
    root_RR = torch.linalg.cholesky(kernel_RR)
    return torch.cholesky_solve(tangent.push(way_P)[:, None], root_RR)[:, 0]
