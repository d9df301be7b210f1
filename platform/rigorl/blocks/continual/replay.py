"""Experience replay: each update also learns from a few remembered rows.

Chaudhry et al. 2019, "On Tiny Episodic Memories in Continual Learning"; the memory is shared by
the groups (classes, tasks) evenly. The loss is weight * new + (1 - weight) * old, as in De Lange,
van de Ven, Tuytelaars 2023; while nothing is remembered, that on what is new alone.

Where an agent remembers what it did itself, and not what was right, this is cloning of its own
behaviour: Rolnick et al. 2019, CLEAR.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from msgspec import Meta
from torch import Tensor

from rigorl.blocks.continual.memory import Memory
from rigorl.blocks.continual.student import Learned, Lesson, Setting, Student

Count = Annotated[int, Meta(gt=0)]
Share = Annotated[float, Meta(gt=0, lt=1)]


class Config(Setting, frozen=True, tag="replay"):
    weight: Share = 0.5
    """Of the loss on what is new, once something is remembered."""
    memory: Count = 1_000
    """Rows that are remembered, of all tasks together."""
    batch: Count = 32
    """Remembered rows in each update."""


class Replay:
    def __init__(self, config: Config, luck: torch.Generator) -> None:
        self.config, self.memory = config, Memory(config.memory, luck)

    def lesson(self, batch: Any) -> Lesson:
        return Lesson(batch, self.memory.sample(self.config.batch))

    def gradient(self, student: Student, lesson: Lesson) -> Tensor:
        if lesson.memories is None:
            return student.gradient(lesson.batch)
        new_P = student.gradient(lesson.batch) * self.config.weight
        return new_P.add_(student.recall(lesson.memories), alpha=1 - self.config.weight)

    def consolidate(self, student: Student, learned: Learned) -> None:
        del student
        self.memory.add(learned.rows, learned.group_N)

    def state(self) -> Mapping[str, Tensor]:
        return self.memory.state()

    def load(self, state: Mapping[str, Tensor]) -> None:
        self.memory.load(state)
