"""EWC: weights that mattered to earlier tasks are held back. Online, with one penalty for all.

Kirkpatrick et al. 2017; Huszar 2018; Schwarz et al. 2018, "Progress & Compress", section 2.3:
after each task F <- decay * F + F_task and theta* <- theta; the loss gains
strength / 2 * sum F (theta - theta*)^2.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from msgspec import Meta
from torch import Tensor

from rigorl.blocks.continual.student import Learned, Lesson, Setting, Student


class Config(Setting, frozen=True, tag="ewc"):
    strength: Annotated[float, Meta(ge=0)] = 100.0
    decay: Annotated[float, Meta(ge=0, le=1)] = 1.0
    """What is left of the importances of earlier tasks when another is added."""


class EWC:
    def __init__(self, config: Config, weights_P: Tensor) -> None:
        self.config = config
        self.fisher_P = torch.zeros_like(weights_P)
        self.anchor_P = weights_P.clone()

    def lesson(self, batch: Any) -> Lesson:
        return Lesson(batch)

    def gradient(self, student: Student, lesson: Lesson) -> Tensor:
        pull_P = (student.weights_P - self.anchor_P).mul_(self.fisher_P).mul_(self.config.strength)
        return pull_P.add_(student.gradient(lesson.batch))

    def consolidate(self, student: Student, learned: Learned) -> None:
        self.fisher_P.mul_(self.config.decay).add_(student.fisher(learned.batch))
        self.anchor_P.copy_(student.weights_P)

    def state(self) -> Mapping[str, Tensor]:
        return {"fisher": self.fisher_P, "anchor": self.anchor_P}

    def load(self, state: Mapping[str, Tensor]) -> None:
        self.fisher_P.copy_(state["fisher"])
        self.anchor_P.copy_(state["anchor"])
