"""Methods against forgetting, one a file, for any agent that keeps `student.Student`."""

import torch
from torch import Tensor

from rigorl.blocks.continual import agem, ewc, finetune, lwf, refresh, replay, si, steady
from rigorl.blocks.continual.memory import Keeping
from rigorl.blocks.continual.student import Learned, Lesson, Method, Rows, Student
from rigorl.seeds import integer

__all__ = ["Chosen", "Learned", "Lesson", "Method", "Rows", "Student", "begin", "is_plain", "room"]

Chosen = (
    finetune.Config
    | replay.Config
    | ewc.Config
    | si.Config
    | lwf.Config
    | agem.Config
    | refresh.Config
    | steady.Config
)
"""What `method:` of an agent may say."""


def begin(chosen: Chosen, weights_P: Tensor, seed: int) -> Method:
    """Return the method as it is at birth, for a student with *weights_P*.

    Methods that remember choose the same rows, given the same seed.
    """
    luck = torch.Generator().manual_seed(integer(seed, "memory"))
    match chosen:
        case refresh.Config():
            noise = torch.Generator().manual_seed(integer(seed, "noise"))
            return refresh.Refresh(chosen, begin(chosen.base, weights_P, seed), weights_P, noise)
        case replay.Config():
            method: Method = replay.Replay(chosen, luck)
        case agem.Config():
            method = agem.AGEM(chosen, luck)
        case ewc.Config():
            method = ewc.EWC(chosen, weights_P)
        case si.Config():
            method = si.SI(chosen, weights_P)
        case lwf.Config():
            method = lwf.LwF(chosen, weights_P)
        case steady.Config():
            method = steady.Steady(chosen, luck)
        case finetune.Config():
            method = finetune.Finetune()
    return method


def is_plain(chosen: Chosen) -> bool:
    """Say whether nothing is done against forgetting, so that no student is needed."""
    return isinstance(chosen, finetune.Config)


def room(chosen: Chosen) -> int:
    """Return the most rows that *chosen* can remember."""
    match chosen:
        case Keeping():
            return chosen.memory
        case refresh.Config():
            return room(chosen.base)
        case _:
            return 0
