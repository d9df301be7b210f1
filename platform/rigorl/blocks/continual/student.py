"""What a method against forgetting asks of whoever learns, and what it is asked in return.

A method sees P weights in one vector and gradients of the same length, and nothing else of an
agent: so the same file serves a classifier, PPO and SAC.

Shapes: P weights, N rows.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from msgspec import Struct
from torch import Tensor

from rigorl.blocks.continual.tangent import Tangent

Rows = tuple[Tensor, ...]
"""Columns of the same N rows: what is asked, then what is to be answered. Each of floats."""


class Student(Protocol):
    """One network, or several that are learned as one. A *batch* is what it makes of new data.

    What a call returns may lie where the next one writes.
    """

    weights_P: Tensor

    def gradient(self, batch: Any) -> Tensor:
        """Return grad_P of the loss on *batch*: the pull of the new task."""

    def recall(self, rows: Rows) -> Tensor:
        """Return grad_P of the mean divergence of its answers from those in *rows*."""

    def answers(self, batch: Any) -> Rows:
        """Return what *batch* asks, and what it answers with its present weights."""

    def fisher(self, batch: Any) -> Tensor:
        """Return fisher_P, the mean squared gradient of the log-likelihood of its own answers."""

    def tangents(self, rows: Rows) -> Sequence[Tangent]:
        """Return, for each of its networks, how its outputs at what *rows* ask change with P."""


class Lesson(NamedTuple):
    """What one update learns from."""

    batch: Any
    memories: Rows | None = None


class Learned(NamedTuple):
    """A task that was learned: *batch* is data of it, as `Student.gradient` takes.

    *rows* are all that a memory may choose from, each of a group (a class, a task); groups share
    a memory.
    """

    batch: Any
    rows: Rows
    group_N: Tensor


class Setting(Struct, frozen=True, forbid_unknown_fields=True, tag_field="name"):
    """What YAML says of a method, below `method:` of an agent."""


class Method(Protocol):
    """One way not to forget."""

    def lesson(self, batch: Any) -> Lesson:
        """Return *batch* with the memories that it is learned with. Rows are drawn here."""

    def gradient(self, student: Student, lesson: Lesson) -> Tensor:
        """Return grad_P, which the optimiser is to follow from the present weights."""

    def consolidate(self, student: Student, learned: Learned) -> None:
        """Take note that a task was learned, with the weights that are there now."""

    def state(self) -> Mapping[str, Tensor]:
        """Return all that it needs to go on, as tensors; they may be its own."""

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take what `state` returned."""
