"""cmaes: what a search tries next by CMA-ES (Hansen 2016, arXiv 1604.00772), in the unit cube.

A pure function, as `optuna_ask`. Optuna keeps the state of its own CMA-ES in trials of its study;
here it is worked out, by telling all earlier generations again. The first generation is the arm
as it comes, what is named, and chance; evolution begins at the best of it, and each further
generation is a population. What counts is who was better than whom: one that was stopped is
worse than all that finished, one that failed is the worst.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from cmaes import CMA
from numpy.typing import NDArray

from rigorl.cube import at, place
from rigorl.search import Outcome
from rigorl.searches import Search
from rigorl.seeds import integer, stream
from rigorl.space import Space

Array = NDArray[np.float64]
SIGMA = 0.2
"""A standard deviation at first, of the edge of the cube."""
RANKS = ("failed", "open", "pruned", "finished")
"""The better, the later."""


def sampled(search: Search, number: int, told: Sequence[Outcome], again: int) -> Mapping[str, Any]:
    """Return candidate *number*; *again*: another one."""
    path = (number, *([again] if again else []))
    size, space = search.generation, search.space
    if len(told) < size:
        rng = np.random.default_rng(stream(search.seed, "cmaes", *path))
        return _config(space, rng.random(len(space)))
    start = max(told[:size], key=_standing)
    cma = CMA(
        _places(space, start.config),
        SIGMA,
        bounds=np.tile([0.0, 1.0], (len(space), 1)),
        seed=integer(search.seed, "cmaes", *path),
        population_size=size,
    )
    for first in range(size, len(told) - size + 1, size):
        population = sorted(told[first : first + size], key=_standing, reverse=True)
        if _standing(population[0])[0]:
            cma.tell([(_places(space, o.config), float(r)) for r, o in enumerate(population)])
    return _config(space, cma.ask())


def _standing(outcome: Outcome) -> tuple[int, int, float]:
    """Return what is more, the better it went: how it ended, how far it came, its value."""
    reached = max(outcome.values, default=-1)
    value = outcome.values.get(reached, math.nan)
    state = outcome.state if math.isfinite(value) else "failed"
    return RANKS.index(state), reached, value if math.isfinite(value) else -math.inf


def _places(space: Space, config: Mapping[str, Any]) -> Array:
    """Return where *config* lies; of what lies outside the space, the middle."""
    places = [
        place(over, config[name]) if over.takes(config.get(name)) else 0.5
        for name, over in space.items()
    ]
    return np.array(places)


def _config(space: Space, places_D: Array) -> Mapping[str, Any]:
    return {
        name: at(over, float(x)) for (name, over), x in zip(space.items(), places_D, strict=True)
    }
