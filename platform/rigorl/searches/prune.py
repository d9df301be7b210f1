"""Who is stopped early."""

import math
from typing import Annotated, Literal

from msgspec import Meta, Struct

Share = Annotated[float, Meta(gt=0, lt=1)]
RACED = 5
"""Tuning seeds of a race: four of them can tell, by signed ranks, and then one is left to save."""


class Prune(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Stop a candidate that falls behind, after the first `grace` of its budget.

    curve: at each exam it must reach what the best `keep` of earlier candidates had there, as
    the mean over tuning seeds. asha: likewise the best 1 / `eta`, at ever fewer exams.
    hyperband: candidates begin together, and the best 1 / `eta` of them go on at each stop.
    racing: one seed after another; who is worse than the best, with a one-sided p below `p` by
    the signed ranks of its seeds so far, is not played on the rest. both: racing, and on each
    seed the curves of earlier candidates on that seed.
    """

    kind: Literal["curve", "asha", "hyperband", "racing", "both"] = "curve"
    keep: Share = 0.5
    grace: Share = 0.25
    eta: Annotated[int, Meta(ge=2)] = 3
    p: Share = 0.1

    def can_stop(self, rungs: int) -> bool:
        """Say whether there is an exam, of so many, after which there is something left to save."""
        first = max(1, math.ceil(self.grace * rungs))
        match self.kind:
            case "hyperband":
                return rungs >= self.eta * max(1.0, self.grace * rungs)
            case "racing":
                return True
            case "asha":
                return first < rungs
            case _:
                return math.ceil(self.grace * rungs) < rungs - 1

    @property
    def kept(self) -> float:
        """The share of earlier candidates that is good enough."""
        return 1 / self.eta if self.kind == "asha" else self.keep

    def check_for(self, name: str, rungs: int, seeds: int) -> None:
        """Refuse what cannot stop a candidate of *name* with so many exams, and tuning seeds."""
        if not self.can_stop(rungs):
            raise ValueError(
                f"prune must find an exam to stop at, but {name} has {rungs} exams and a "
                f"grace of {self.grace:g}; lower exam_every, or grace"
            )
        if self.kind in ("racing", "both") and seeds < RACED:
            raise ValueError(
                f"a race must have at least {RACED} tuning seeds, but {name} has {seeds}: no "
                "candidate is clearly worse before the fourth; add seeds, or prune by `curve`"
            )
