"""Refresh learning: before each update unlearn a little, then learn again.

Wang et al. 2024, "A Unified and General Framework for Continual Learning": with L the loss of a
base method, *steps* times theta <- theta + gamma L' / F + N(0, 2 gamma / F), and then the update
of the base method from there. As 1 / F has no bound, it is 1 / (F + damping) here; after each task
F <- decay * F + F_task. With gamma = 0 it is the base method, bit for bit.

The public code ascends the loss of the current batch alone, by a hundred-thousandth of the
weights' norm; this is the paper's update. The weights change between two updates, and the
optimiser's state does not.
"""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from msgspec import Meta
from torch import Tensor

from rigorl.blocks.continual import agem, ewc, finetune, lwf, replay, si
from rigorl.blocks.continual.student import Learned, Lesson, Method, Setting, Student

Base = finetune.Config | replay.Config | ewc.Config | si.Config | lwf.Config | agem.Config


class Config(Setting, frozen=True, tag="refresh"):
    base: Base = replay.Config()
    gamma: Annotated[float, Meta(ge=0)] = 1e-6
    """Larger ones wreck PPO and SAC by their noise: 1e-4 moves each weight by 0.014 an update."""
    steps: Annotated[int, Meta(gt=0)] = 1
    damping: Annotated[float, Meta(gt=0)] = 1.0
    decay: Annotated[float, Meta(ge=0, le=1)] = 1.0
    noise: Annotated[float, Meta(ge=0)] = 1.0
    """Factor on the noise's deviation; 0: plain ascent."""


class Refresh:
    def __init__(
        self, config: Config, base: Method, weights_P: Tensor, luck: torch.Generator
    ) -> None:
        self.config, self.base, self.luck = config, base, luck
        self.fisher_P = torch.zeros_like(weights_P)

    def lesson(self, batch: Any) -> Lesson:
        return self.base.lesson(batch)

    def gradient(self, student: Student, lesson: Lesson) -> Tensor:
        config = self.config
        if config.gamma:
            ease_P = config.gamma / (self.fisher_P + config.damping)
            for _ in range(config.steps):
                student.weights_P.addcmul_(self.base.gradient(student, lesson), ease_P)
                if config.noise:
                    noise_P = torch.randn(len(ease_P), generator=self.luck).to(ease_P.device)
                    student.weights_P.addcmul_(noise_P, (2 * ease_P).sqrt_(), value=config.noise)
        return self.base.gradient(student, lesson)

    def consolidate(self, student: Student, learned: Learned) -> None:
        self.base.consolidate(student, learned)
        self.fisher_P.mul_(self.config.decay).add_(student.fisher(learned.batch))

    def state(self) -> Mapping[str, Tensor]:
        base = {f"base-{name}": tensor for name, tensor in self.base.state().items()}
        return {**base, "fisher": self.fisher_P, "luck": self.luck.get_state()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        begin = "base-"
        self.base.load({n[len(begin) :]: t for n, t in state.items() if n.startswith(begin)})
        self.fisher_P.copy_(state["fisher"])
        self.luck.set_state(state["luck"])
