"""Where every random number comes from.

A trial has one seed. Everything random in it draws from a named stream of that seed, so
that adding a consumer never shifts the numbers another consumer sees.
"""

import hashlib
from typing import Annotated

import numpy as np
from msgspec import Meta, Struct

Seed = Annotated[int, Meta(ge=0)]


class SeedPlan(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Seeds to choose hyperparameters with, and other seeds to be judged by."""

    test: Annotated[tuple[Seed, ...], Meta(min_length=1)]
    tune: tuple[Seed, ...] = ()

    def __post_init__(self) -> None:
        shared = sorted(set(self.tune) & set(self.test))
        if shared:
            raise ValueError(
                f"tune and test must not share a seed, but both have {shared}; "
                "an agent may not be judged on what it was chosen by: change one of the lists"
            )
        for name, seeds in (("tune", self.tune), ("test", self.test)):
            if len(set(seeds)) != len(seeds):
                raise ValueError(
                    f"{name} must not repeat a seed, but is {list(seeds)}; drop the repeats"
                )


def stream(seed: int, *path: str | int) -> np.random.SeedSequence:
    """Return the stream of random numbers that *path* names under *seed*."""
    digest = hashlib.sha256("/".join(map(str, path)).encode()).digest()
    return np.random.SeedSequence([seed, int.from_bytes(digest[:8], "big")])


def integer(seed: int, *path: str | int) -> int:
    """Return a 32-bit seed for libraries that want a plain integer."""
    return int(stream(seed, *path).generate_state(1)[0])
