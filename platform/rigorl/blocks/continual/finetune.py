"""Fine-tuning: nothing is done against forgetting."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from rigorl.blocks.continual.student import Learned, Lesson, Setting, Student


class Config(Setting, frozen=True, tag="finetune"):
    pass


class Finetune:
    def lesson(self, batch: Any) -> Lesson:
        return Lesson(batch)

    def gradient(self, student: Student, lesson: Lesson) -> Tensor:
        return student.gradient(lesson.batch)

    def consolidate(self, student: Student, learned: Learned) -> None:
        pass

    def state(self) -> Mapping[str, Tensor]:
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        pass
