"""What may be asked for when the score on an earlier task falls, and what is known of its past.

Scores are on the scale of their task: 0 as acting at random, 1 as its reference.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Then = Literal["mark", "stop", "roll_back"]
TIMES = 3
"""Roll-backs in one stage, if nobody says otherwise."""


class AlarmSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fall by `drop` or more between two of `within` evaluations in a row, once learned.

    `mark` says so and changes no result. `stop` ends the trial; `roll_back` takes the agent back
    to its last checkpoint before the fall, at most `times` in a stage. These two are part of it.
    """

    drop: Annotated[float, Meta(gt=0, le=1)]
    within: Annotated[int, Meta(ge=2)]
    then: Then = "mark"
    times: Annotated[int, Meta(ge=1)] | None = None

    def __post_init__(self) -> None:
        if self.times is not None and self.then != "roll_back":
            raise ValueError(
                f"times must count roll-backs, but then is {self.then!r}; drop times, or write "
                "then: roll_back"
            )

    @property
    def acts(self) -> bool:
        """Whether it changes what a trial does."""
        return self.then != "mark"

    @property
    def most(self) -> int:
        """Return how many roll-backs there may be in a stage."""
        return (self.times or TIMES) if self.then == "roll_back" else 0


class Level(Struct, frozen=True, array_like=True):
    """A score on one task, by the evaluation `number` since it was learned, and when that was.

    `made` are the environment steps of the trial. `checkpoint` is the last one made by then.
    """

    score: float
    number: int
    made: int
    update: int
    checkpoint: str = ""


class Watched(Struct, frozen=True, array_like=True):
    """How high a task stood lately: `levels` fall, and the first is the highest of its window."""

    seen: int = 0
    levels: tuple[Level, ...] = ()


class Fall(Struct, frozen=True, array_like=True):
    """The score on `task` fell from a level to `score`, as an exam at this stage and step shows."""

    task: str
    since: Level
    score: float
    stage: int
    step: int
