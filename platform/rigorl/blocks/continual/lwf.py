"""Learning without forgetting: on new data, answer as one did before the task began.

Li, Hoiem 2016: the loss gains strength * divergence from the answers of the network as it was at
the last switch, on the data of the new task. No memory is needed. Without their temperature.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from msgspec import Meta
from torch import Tensor

from rigorl.blocks.continual.student import Learned, Lesson, Rows, Setting, Student


class Config(Setting, frozen=True, tag="lwf"):
    strength: Annotated[float, Meta(ge=0)] = 1.0


class LwF:
    def __init__(self, config: Config, weights_P: Tensor) -> None:
        self.config = config
        self.teacher_P = weights_P.clone()
        self.tasks = torch.zeros((), dtype=torch.int64)

    def lesson(self, batch: Any) -> Lesson:
        return Lesson(batch)

    def gradient(self, student: Student, lesson: Lesson) -> Tensor:
        if not self.tasks:
            return student.gradient(lesson.batch)
        new_P = student.gradient(lesson.batch).clone()  # first: a batch may hold what it computed
        asked = self._teach(student, lesson.batch)
        return new_P.add_(student.recall(asked), alpha=self.config.strength)

    def _teach(self, student: Student, batch: Any) -> Rows:
        now_P = student.weights_P.clone()
        student.weights_P.copy_(self.teacher_P)
        asked = student.answers(batch)
        student.weights_P.copy_(now_P)
        return asked

    def consolidate(self, student: Student, learned: Learned) -> None:
        del learned
        self.teacher_P.copy_(student.weights_P)
        self.tasks += 1

    def state(self) -> Mapping[str, Tensor]:
        return {"teacher": self.teacher_P, "tasks": self.tasks}

    def load(self, state: Mapping[str, Tensor]) -> None:
        self.teacher_P.copy_(state["teacher"])
        self.tasks.copy_(state["tasks"])
