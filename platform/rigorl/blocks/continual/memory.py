"""A memory of fixed size that the groups it has met share evenly; what methods with one share."""

from collections.abc import Mapping
from typing import Annotated, Any

import torch
from msgspec import Meta
from torch import Tensor

from rigorl.blocks.continual.student import Learned, Lesson, Rows, Setting, Student
from rigorl.errors import TrialFailed

Count = Annotated[int, Meta(gt=0)]


class Memory:
    """At most *capacity* rows, the same number of each group, chosen by chance.

    A group that comes later takes room from those before; what is kept of a group is always a
    part of what was kept.
    """

    def __init__(self, capacity: int, luck: torch.Generator) -> None:
        self.capacity, self.luck = capacity, luck
        self.rows: Rows = ()
        self.group_N = torch.zeros(0, dtype=torch.int64)

    def __len__(self) -> int:
        return len(self.group_N)

    def add(self, rows: Rows, group_N: Tensor) -> None:
        """Choose from *rows*; groups that were met before keep what is remembered of them."""
        known = set(self.group_N.tolist())
        order_N = torch.randperm(len(group_N), generator=self.luck)
        fresh_N = order_N[torch.tensor([g not in known for g in group_N[order_N].tolist()])]
        rows = tuple(column[fresh_N] for column in rows)
        if self.rows:
            rows = tuple(map(torch.cat, zip(self.rows, rows, strict=True)))
        group_N = torch.cat([self.group_N, group_N[fresh_N]])
        groups = sorted(set(group_N.tolist()))
        share = self.capacity // len(groups)
        if not share:
            raise TrialFailed(
                "memory must have a row for each class or task that was learned, but has "
                f"{self.capacity} for {len(groups)}; raise it"
            )
        kept = [(group_N == group).nonzero().squeeze(1)[:share] for group in groups]
        kept_N = torch.cat(kept)
        self.rows = tuple(column[kept_N].clone() for column in rows)
        self.group_N = group_N[kept_N]

    def sample(self, count: int) -> Rows | None:
        """Return *count* rows, none twice while there are enough; None while there is none."""
        size = len(self)
        if not size:
            return None
        if size < count:
            at_N = torch.randint(size, (count,), generator=self.luck)
        else:
            at_N = torch.randperm(size, generator=self.luck)[:count]
        return tuple(column[at_N] for column in self.rows)

    def state(self) -> dict[str, Tensor]:
        columns = {f"column{i}": column for i, column in enumerate(self.rows)}
        return {**columns, "group": self.group_N, "luck": self.luck.get_state()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        count = sum(name.startswith("column") for name in state)
        self.rows = tuple(state[f"column{i}"].clone() for i in range(count))
        self.group_N = state["group"].clone()
        self.luck.set_state(state["luck"])


class Keeping(Setting, frozen=True, kw_only=True):
    """What is said of a method that remembers."""

    memory: Count = 1_000
    """Rows that are remembered, of all tasks together."""
    batch: Count = 32
    """Remembered rows in each update."""


class Remembering:
    """A method but for its gradient: it keeps rows of each task, and learns with some of them."""

    def __init__(self, config: Keeping, luck: torch.Generator) -> None:
        self.batch, self.memory = config.batch, Memory(config.memory, luck)

    def lesson(self, batch: Any) -> Lesson:
        return Lesson(batch, self.memory.sample(self.batch))

    def consolidate(self, student: Student, learned: Learned) -> None:
        del student
        self.memory.add(learned.rows, learned.group_N)

    def state(self) -> Mapping[str, Tensor]:
        return self.memory.state()

    def load(self, state: Mapping[str, Tensor]) -> None:
        self.memory.load(state)
