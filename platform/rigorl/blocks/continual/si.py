"""Synaptic intelligence: weights that lowered the loss of earlier tasks are held back.

Zenke, Poole, Ganguli 2017: along the way w <- w - g * (change of theta), g being the gradient of
the loss alone (eq. 3); after each task Omega <- Omega + max(0, w) / (D^2 + damping), D being how
far theta has come in it (eq. 5); the loss gains strength * sum Omega (theta - theta*)^2 (eq. 4).
"""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from msgspec import Meta
from torch import Tensor

from rigorl.blocks.continual.student import Learned, Lesson, Setting, Student


class Config(Setting, frozen=True, tag="si"):
    strength: Annotated[float, Meta(ge=0)] = 1.0
    damping: Annotated[float, Meta(gt=0)] = 0.1


class SI:
    def __init__(self, config: Config, weights_P: Tensor) -> None:
        self.config = config
        zero = torch.zeros_like(weights_P)
        self._state = {
            "path": zero.clone(),
            "importance": zero.clone(),
            "anchor": weights_P.clone(),
            "slope": zero.clone(),  # where the last update began, and the loss's gradient there
            "before": weights_P.clone(),
        }

    def lesson(self, batch: Any) -> Lesson:
        return Lesson(batch)

    def gradient(self, student: Student, lesson: Lesson) -> Tensor:
        self._settle(student)
        held = self._state
        slope_P = student.gradient(lesson.batch)
        held["slope"].copy_(slope_P)
        held["before"].copy_(student.weights_P)
        pull_P = (student.weights_P - held["anchor"]).mul_(held["importance"])
        return pull_P.mul_(2 * self.config.strength).add_(slope_P)

    def consolidate(self, student: Student, learned: Learned) -> None:
        del learned
        self._settle(student)
        held = self._state
        way_P = student.weights_P - held["anchor"]
        gain_P = held["path"].clamp(min=0) / (way_P.square() + self.config.damping)
        held["importance"].add_(gain_P)
        held["path"].zero_()
        held["anchor"].copy_(student.weights_P)

    def _settle(self, student: Student) -> None:
        """Book what the last update has brought: now it is known how far it went."""
        held = self._state
        held["path"].sub_(held["slope"] * (student.weights_P - held["before"]))
        held["slope"].zero_()

    def state(self) -> Mapping[str, Tensor]:
        return self._state

    def load(self, state: Mapping[str, Tensor]) -> None:
        for name, tensor in self._state.items():
            tensor.copy_(state[name])
