"""Experience replay: each update also learns from a few remembered rows.

Chaudhry et al. 2019, "On Tiny Episodic Memories in Continual Learning"; the memory is shared by
the groups (classes, tasks) evenly. The loss is weight * new + (1 - weight) * old, as in De Lange,
van de Ven, Tuytelaars 2023; while nothing is remembered, that on what is new alone.

Where an agent remembers what it did itself, and not what was right, this is cloning of its own
behaviour: Rolnick et al. 2019, CLEAR.
"""

from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor

from rigorl.blocks.continual.memory import Keeping, Remembering
from rigorl.blocks.continual.student import Lesson, Student

Share = Annotated[float, Meta(gt=0, lt=1)]


class Config(Keeping, frozen=True, kw_only=True, tag="replay"):
    weight: Share = 0.5
    """Of the loss on what is new, once something is remembered."""


class Replay(Remembering):
    def __init__(self, config: Config, luck: torch.Generator) -> None:
        super().__init__(config, luck)
        self.config = config

    def gradient(self, student: Student, lesson: Lesson) -> Tensor:
        if lesson.memories is None:
            return student.gradient(lesson.batch)
        new_P = student.gradient(lesson.batch) * self.config.weight
        return new_P.add_(student.recall(lesson.memories), alpha=1 - self.config.weight)
