"""A-GEM: no update may, to first order, raise the loss on what is remembered.

Chaudhry et al. 2019, "Efficient Lifelong Learning with A-GEM", eq. 11: where the gradient g on
the new batch points against that on the memory, r, it is projected: g - (g.r / r.r) r.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from msgspec import Meta
from torch import Tensor

from rigorl.blocks.continual.memory import Memory
from rigorl.blocks.continual.student import Learned, Lesson, Setting, Student

Count = Annotated[int, Meta(gt=0)]


class Config(Setting, frozen=True, tag="agem"):
    memory: Count = 1_000
    """Rows that are remembered, of all tasks together."""
    batch: Count = 32
    """Remembered rows in each update."""


class AGEM:
    def __init__(self, config: Config, luck: torch.Generator) -> None:
        self.config, self.memory = config, Memory(config.memory, luck)

    def lesson(self, batch: Any) -> Lesson:
        return Lesson(batch, self.memory.sample(self.config.batch))

    def gradient(self, student: Student, lesson: Lesson) -> Tensor:
        if lesson.memories is None:
            return student.gradient(lesson.batch)
        new_P = student.gradient(lesson.batch).clone()
        old_P = student.recall(lesson.memories)
        along, length = torch.dot(new_P, old_P), torch.dot(old_P, old_P)
        return new_P - (along / length) * old_P if along < 0 else new_P

    def consolidate(self, student: Student, learned: Learned) -> None:
        del student
        self.memory.add(learned.rows, learned.group_N)

    def state(self) -> Mapping[str, Tensor]:
        return self.memory.state()

    def load(self, state: Mapping[str, Tensor]) -> None:
        self.memory.load(state)
