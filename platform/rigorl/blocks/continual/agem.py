"""A-GEM: no update may, to first order, raise the loss on what is remembered.

Chaudhry et al. 2019, "Efficient Lifelong Learning with A-GEM", eq. 11: where the gradient g on
the new batch points against that on the memory, r, it is projected: g - (g.r / r.r) r.
"""

import torch
from torch import Tensor

from rigorl.blocks.continual.memory import Keeping, Remembering
from rigorl.blocks.continual.student import Lesson, Student


class Config(Keeping, frozen=True, kw_only=True, tag="agem"):
    pass


class AGEM(Remembering):
    def gradient(self, student: Student, lesson: Lesson) -> Tensor:
        if lesson.memories is None:
            return student.gradient(lesson.batch)
        new_P = student.gradient(lesson.batch).clone()
        old_P = student.recall(lesson.memories)
        along, length = torch.dot(new_P, old_P), torch.dot(old_P, old_P)
        return new_P - (along / length) * old_P if along < 0 else new_P
