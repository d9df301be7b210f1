"""DEHB: what a search tries next by differential evolution, on top of Hyperband.

After Awad, Mallik, Hutter (IJCAI 2021): rand/1/bin in the unit cube, where parents come from the
best at the next lower fidelity, and what leaves the cube is drawn anew.

It departs from the paper in this. Those that a bracket promotes go on from where they stand, as in
`hunting`, so only the candidates that a bracket begins with are bred: at the fidelity of its first
stop. The first bracket alone is drawn at random, not the first of each size. And a population is
the best of all that reached a fidelity, where the paper has a child replace its own target: then
what is bred follows from what candidates were worth, and nothing need be kept.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rigorl.cube import at, place
from rigorl.hunting import bracket
from rigorl.search import Outcome
from rigorl.searches import Prune, Search
from rigorl.seeds import stream
from rigorl.space import Space, counts, fits, ordered

Array = NDArray[np.float64]
FACTOR = 0.5
CROSSOVER = 0.5
PARENTS = 3
"""A mutant has so many, each another one."""


def bred(search: Search, number: int, told: Sequence[Outcome], again: int = 0) -> dict[str, Any]:
    """Return candidate *number*, given whole brackets of earlier ones; *again*: another one."""
    rng = np.random.default_rng(stream(search.seed, "dehb", number, *([again] if again else [])))
    random_D = rng.random(len(search.space))
    rungs = next((max(o.values) + 1 for o in told if o.state == "finished"), None)
    if rungs is None or search.prune is None:
        return config(search.space, random_D)
    size, lower, here = _fidelities(search.prune, rungs, len(told))
    genes_CD = genes(search, told)
    targets = _best(search, told, here)[:size]
    parents = (_best(search, told, lower) if lower is not None else targets)[: max(size, PARENTS)]
    if len(parents) < PARENTS:
        others = [number for number in _best(search, told, None) if number not in parents]
        parents = [*parents, *others[: PARENTS - len(parents)]]
    if len(parents) < PARENTS:
        return config(search.space, random_D)
    targets = targets or parents
    target_D = genes_CD[targets[(number - len(told)) % len(targets)]]
    return config(search.space, child(target_D, genes_CD[parents], rng))


def _fidelities(prune: Prune, rungs: int, first: int) -> tuple[int, int | None, int]:
    """Return the size of the bracket that begins with candidate number *first*, and two rungs.

    They are that of its first stop, or the last one if it has none, and the next lower one at
    which any bracket stops.
    """
    begun = bracket(prune, rungs, first)
    here = min((*begun.stops, rungs - 1))
    below = [stop for stop in bracket(prune, rungs, 0).stops if stop < here]
    return begun.candidates, max(below, default=None), here


def _best(search: Search, told: Sequence[Outcome], rung: int | None) -> list[int]:
    """Return the numbers of those that reached *rung*, the best first.

    None: of all that reached any, those that went the farthest first.
    """

    def worth(number: int) -> tuple[int, float]:
        at = max(told[number].values) if rung is None else rung
        return at, told[number].values[at]

    able = [n for n, o in enumerate(told) if o.state != "failed" and fits(search.space, o.config)]
    there = [n for n in able if (told[n].values if rung is None else rung in told[n].values)]
    return sorted((n for n in there if math.isfinite(worth(n)[1])), key=worth, reverse=True)


def genes(search: Search, told: Sequence[Outcome]) -> Array:
    """Return genes_CD: where each candidate lies in the cube.

    The gene of a dimension that does not count is drawn at random: it says nothing there, and may
    come to count in a child.
    """
    genes_CD = np.empty((len(told), len(search.space)))
    for number, outcome in enumerate(told):
        rng = np.random.default_rng(stream(search.seed, "inert", number))
        genes_CD[number] = rng.random(len(search.space))
        for d, (name, over) in enumerate(search.space.items()):
            if fits(search.space, outcome.config) and name in outcome.config:
                genes_CD[number, d] = place(over, outcome.config[name])
    return genes_CD


def child(target_D: Array, parents_PD: Array, rng: np.random.Generator) -> Array:
    """Return a child of *target_D* and of a mutant of three *parents_PD* drawn at random."""
    a_D, b_D, c_D = parents_PD[rng.choice(len(parents_PD), PARENTS, replace=False)]
    mutant_D = a_D + FACTOR * (b_D - c_D)
    outside_D = (mutant_D < 0) | (mutant_D > 1)
    mutant_D = np.where(outside_D, rng.random(len(mutant_D)), mutant_D)
    takes_D = rng.random(len(mutant_D)) < CROSSOVER
    takes_D[rng.integers(len(takes_D))] = True  # else it could be its target once more
    return np.where(takes_D, mutant_D, target_D)


def config(space: Space, genes_D: Array) -> dict[str, Any]:
    """Return what lies at *genes_D*, as far as it counts."""
    found: dict[str, Any] = {}
    places = dict(zip(space, map(float, genes_D), strict=True))
    for name in ordered(space):
        if counts(space[name], found):
            found[name] = at(space[name], places[name])
    return {name: found[name] for name in space if name in found}
