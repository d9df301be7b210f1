"""A ring of transitions: what an off-policy learner has lived through.

A transition is one row of single precision, so that a batch is one gather and a segment of a
checkpoint one piece of memory. Row (R numbers): observation, action, next observation, reward,
and 1 if it was terminal. A step cut by a time limit is not: its next observation is the true one.
"""

from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

SEGMENT = 4_096
"""Transitions in a file of a checkpoint: a megabyte or so, and at most two of them are unfinished
at a time and written by each checkpoint."""


class Batch(NamedTuple):
    """Views into the room of the last sample; the next one overwrites them."""

    obs_BD: NDArray[Any]
    action_BA: NDArray[Any]
    next_obs_BD: NDArray[Any]
    reward_B: NDArray[Any]
    terminal_B: NDArray[Any]


class Replay:
    """The last *capacity* transitions, and *rng*, its own, to sample them.

    Room is reserved at once, but a system gives memory only for what was written to.
    """

    def __init__(self, capacity: int, n_obs: int, n_actions: int, rng: np.random.Generator) -> None:
        self.capacity, self.segment = capacity, SEGMENT
        self.n_obs, self.n_actions = n_obs, n_actions
        self.ring_CR = np.zeros((capacity, 2 * n_obs + n_actions + 2), np.float32)
        self.rng = rng
        self.added = 0
        """Transitions added since birth: transition i is at i % capacity."""
        self.begun = 0
        """The first transition that was not cleared away."""
        self._room_BR = self.ring_CR[:0]

    def __len__(self) -> int:
        return self.added - self.first

    @property
    def first(self) -> int:
        """The oldest transition that is still there."""
        return max(self.begun, self.added - self.capacity)

    def add(
        self,
        obs_ED: NDArray[Any],
        action_EA: NDArray[Any],
        next_obs_ED: NDArray[Any],
        reward_E: NDArray[Any],
        terminal_E: NDArray[np.bool_],
    ) -> None:
        """Add a step of E environments, at most *capacity* of them."""
        D, A = self.n_obs, self.n_actions
        at = self._at(self.added, self.added + len(reward_E))
        self.ring_CR[at, :D] = obs_ED
        self.ring_CR[at, D : D + A] = action_EA
        self.ring_CR[at, D + A : -2] = next_obs_ED
        self.ring_CR[at, -2] = reward_E
        self.ring_CR[at, -1] = terminal_E
        self.added += len(reward_E)

    def sample(self, size: int) -> Batch:
        """Return *size* of the transitions, each as likely as any other, with replacement."""
        if len(self._room_BR) != size:
            self._room_BR = np.empty((size, self.ring_CR.shape[1]), np.float32)
        at_B = self.rng.integers(self.first, self.added, size)
        # `clip` only spares NumPy a copy: no index is out of bounds.
        np.take(self.ring_CR, at_B % self.capacity, axis=0, out=self._room_BR, mode="clip")
        return self._split(self._room_BR)

    def choose(self, most: int, since: int, rng: np.random.Generator) -> Batch:
        """Return up to *most* of the transitions from number *since* on, none twice, by *rng*."""
        first = max(since, self.first)
        size = min(most, self.added - first)
        at_N = first + rng.choice(self.added - first, size, replace=False)
        return self._split(self.ring_CR[at_N % self.capacity])

    def clear(self) -> None:
        """Forget all transitions. They keep their numbers, so no segment is taken for another."""
        self.begun = self.added

    def save(self, folder: Path) -> None:
        """Write what is not in *folder* already, and remove segments that are no longer there.

        A segment is written when it is full, and as long as all of it is in the ring; before and
        behind the full ones are rests.
        """
        full = self._full()
        names = {segment_name(first): first for first in full}
        for path in folder.glob("replay-*.segment"):
            if path.name not in names:
                path.unlink()
        for name, first in names.items():
            if not (folder / name).exists():
                (folder / name).write_bytes(self._rows(first, first + self.segment).tobytes())
        (folder / "replay.rest").write_bytes(b"".join(r.tobytes() for r in self._rests(full)))
        rng: dict[str, Any] = dict(self.rng.bit_generator.state)
        rng["state"] = {key: str(value) for key, value in rng["state"].items()}  # of 128 bits
        kept = _Kept(added=self.added, begun=self.begun, segment=self.segment, rng=rng)
        (folder / "replay.json").write_bytes(msgspec.json.encode(kept))

    def load(self, folder: Path) -> None:
        kept = msgspec.json.decode((folder / "replay.json").read_bytes(), type=_Kept)
        self.added, self.begun, self.segment = kept.added, kept.begun, kept.segment
        state = {key: int(value) for key, value in kept.rng["state"].items()}
        self.rng.bit_generator.state = {**kept.rng, "state": state}
        full = self._full()
        for first in full:
            self._put(first, _read(folder / segment_name(first)))
        rest = _read(folder / "replay.rest")
        head = (full.start if full else self.added) - self.first
        self._put(self.first, rest[: head * self.ring_CR.shape[1]])
        self._put(
            self.first + head + len(full) * self.segment, rest[head * self.ring_CR.shape[1] :]
        )

    def _split(self, rows_BR: NDArray[Any]) -> Batch:
        D, A = self.n_obs, self.n_actions
        return Batch(
            rows_BR[:, :D],
            rows_BR[:, D : D + A],
            rows_BR[:, D + A : -2],
            rows_BR[:, -2],
            rows_BR[:, -1],
        )

    def _full(self) -> range:
        """Return the first transitions of the segments of which all are there."""
        start = -(-self.first // self.segment) * self.segment
        return range(start, self.added - self.segment + 1, self.segment)

    def _rests(self, full: range) -> list[NDArray[Any]]:
        """Return the rows that are in no full segment, those before and those behind."""
        if not full:
            return [self._rows(self.first, self.added)]
        behind = full[-1] + self.segment
        return [self._rows(self.first, full.start), self._rows(behind, self.added)]

    def _rows(self, first: int, stop: int) -> NDArray[Any]:
        return self.ring_CR[self._at(first, stop)]

    def _put(self, first: int, numbers: NDArray[Any]) -> None:
        rows_BR = numbers.reshape(-1, self.ring_CR.shape[1])
        self.ring_CR[self._at(first, first + len(rows_BR))] = rows_BR

    def _at(self, first: int, stop: int) -> slice | NDArray[Any]:
        """Return where transitions *first* to *stop* are: a slice, unless they wrap around."""
        start = first % self.capacity
        if start + stop - first <= self.capacity:
            return slice(start, start + stop - first)
        at: NDArray[Any] = np.arange(first, stop) % self.capacity
        return at


class _Kept(msgspec.Struct, frozen=True):
    """What a replay is, beside its rows."""

    added: int
    begun: int
    segment: int
    rng: dict[str, Any]


def segment_name(first: int) -> str:
    """Return the name of the segment whose first transition is *first*."""
    return f"replay-{first:012d}.segment"


def _read(path: Path) -> NDArray[Any]:
    return np.frombuffer(path.read_bytes(), np.float32)
