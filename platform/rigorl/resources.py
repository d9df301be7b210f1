"""What the parts of a trial need, and how they may be placed. Never part of a result.

A trial is a learner and, where the spec asks for one, a crew. The learner's CPUs and GPUs stand
in `budget`, for they are part of the trial.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Literal, NamedTuple

from msgspec import Meta, Struct

Amount = Annotated[float, Meta(ge=0)]
Size = Annotated[int, Meta(ge=0)]
Memory = Annotated[str, Meta(pattern=r"^[0-9]+(\.[0-9]+)? ?[KMGT]i?B$")]
Strategy = Literal["PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD"]


def _check_finite(name: str, amount: float) -> None:
    if not math.isfinite(amount):
        raise ValueError(f"resources must be finite, but {name} is {amount}; correct it")


class Needs(NamedTuple):
    """What one process must find on a node. `memory` in bytes; nodes carry `labels`."""

    cpus: float = 1.0
    gpus: float = 0.0
    memory: int = 0
    resources: Mapping[str, float] = {}
    labels: Mapping[str, str] = {}


class LearnerSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the learner needs beside the CPUs and GPUs of `budget`.

    `memory` as 512MiB or 4GB; `resources` by the names that the cluster's nodes were started
    with; `labels` that a node must carry, as {ray.io/accelerator-type: H100}.
    """

    memory: Memory | None = None
    resources: dict[str, Amount] = {}
    labels: dict[str, str] = {}

    def __post_init__(self) -> None:
        for name, amount in self.resources.items():
            if name.lower() in ("cpu", "gpu", "memory"):
                raise ValueError(
                    f"resources must be those of your own cluster, but {name} has a key of its "
                    "own; write cpus, gpus or memory"
                )
            _check_finite(name, amount)


class CrewSpec(LearnerSpec, frozen=True):
    """What each member of a trial's crew needs; `size` of them work for its agent."""

    size: Size = 0
    cpus: Amount = 1.0
    gpus: Amount = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_finite("cpus", self.cpus)
        _check_finite("gpus", self.gpus)


class PlacementSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the parts of each trial go: together or apart, on which nodes.

    The words are Ray's: PACK on few nodes, SPREAD over many, and with STRICT not otherwise.
    """

    strategy: Strategy = "PACK"
    learner: LearnerSpec = LearnerSpec()
    crew: CrewSpec = CrewSpec()


class ExamSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Exams that do not stop the learner: `crew` more processes take them.

    The learner waits only when it is more than `backlog` exams ahead.
    """

    crew: Size = 0
    backlog: Annotated[int, Meta(ge=1)] = 2


def needs(cpus: float, gpus: float, placement: PlacementSpec, exam: ExamSpec) -> tuple[Needs, ...]:
    """Return what the processes of one trial need: the learner, its crew, those of its exams."""
    learner, crew = placement.learner, placement.crew
    first = Needs(cpus, gpus, in_bytes(learner.memory), learner.resources, learner.labels)
    member = Needs(crew.cpus, crew.gpus, in_bytes(crew.memory), crew.resources, crew.labels)
    return first, *[member] * (crew.size + exam.crew)


def in_bytes(memory: Memory | None) -> int:
    """Return `4GiB` as 4294967296."""
    if memory is None:
        return 0
    number = memory.rstrip("KMGTiB ")
    unit = memory.removeprefix(number).strip()
    power = "KMGT".index(unit[0]) + 1
    return round(float(number) * float(1024 if "i" in unit else 1000) ** power)
