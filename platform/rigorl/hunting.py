"""How candidates are played: on all seeds side by side, or one seed after another.

A hunt is a generator: it yields tries, a wave at a time, and is sent what came of each. Whoever
drives it may have trials played, or look them up. All that it decides rests on what it was sent,
so it goes the same way whenever it is told again.
"""

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, NamedTuple

from rigorl.analysis.statistics import signed_rank
from rigorl.populations import stops
from rigorl.search import Outcome, bars, joined, mean
from rigorl.searches import Prune, Search

Config = Mapping[str, Any]
Propose = Callable[[int, Sequence[Outcome]], Config | None]
"""Candidate number n, given what earlier ones came to; None where nobody can say yet."""


class Try(NamedTuple):
    """A candidate to be played on some of its seeds, for as long as it reaches the bars."""

    number: int
    config: Config
    seeds: tuple[int, ...]
    """Places in `seeds.tune`."""
    bars: Mapping[int, float]


class Size(NamedTuple):
    """What a candidate is when nothing stops it: so many seeds, and rungs on each."""

    seeds: int
    rungs: int


Hunting = Generator[list[Try], Sequence[Outcome], None]
Field = Mapping[int, Config]
"""The candidates of a generation, by number."""
Tries = Generator[list[Try], Sequence[Outcome], list[Outcome]]
"""Yields waves of tries, is sent what came of each, and returns what came of each candidate."""


def hunt(how: Search, size: Size, propose: Propose, told: list[Outcome]) -> Hunting:
    """Hunt for the best of `how.candidates`, and add to *told* what came of each.

    They come in generations, each proposed by what earlier generations came to.
    """
    if how.is_population:
        yield from _evolve(how, size, propose, told)
        return
    while len(told) < how.candidates:
        first, field = len(told), {}
        last = min(first + _generation(how, first, size.rungs), how.candidates)
        for number in range(first, last):
            config = propose(number, told)
            if config is None:
                return
            field[number] = config
        told += yield from _play(how.prune, field, told, size)


def follow(hunting: Hunting, answer: Callable[[Try], Outcome]) -> None:
    """Go through with *hunting*, where what comes of a try is known at once."""
    tries = next(hunting, None)
    while tries is not None:
        tries = then(hunting, [answer(one) for one in tries])


def then(hunting: Hunting, outcomes: Sequence[Outcome]) -> list[Try] | None:
    """Tell *hunting* what came of a wave, and return its next one; None: it is over."""
    try:
        return hunting.send(outcomes)
    except StopIteration:
        return None


def _generation(how: Search, first: int, rungs: int) -> int:
    """Return how many candidates come together with candidate number *first*."""
    if how.prune and how.prune.kind == "hyperband":
        return bracket(how.prune, rungs, first).candidates
    return how.generation


def _play(prune: Prune | None, field: Field, told: Sequence[Outcome], size: Size) -> Tries:
    if prune and prune.kind == "hyperband":
        return _hyperband(prune, field, size)
    if prune and prune.kind in ("racing", "both"):
        return _seed_by_seed(prune, field, told, size)
    return _side_by_side(prune, field, told, size)


def _side_by_side(prune: Prune | None, field: Field, told: Sequence[Outcome], size: Size) -> Tries:
    """Play each on all its seeds in lockstep; bars rest on the means of earlier generations."""
    seen = [outcome.values for outcome in told if outcome.state != "failed"]
    limits = bars(prune, seen, size.rungs)
    seeds = tuple(range(size.seeds))
    return list((yield [Try(number, config, seeds, limits) for number, config in field.items()]))


def _evolve(how: Search, size: Size, propose: Propose, told: list[Outcome]) -> Hunting:
    """Play a population from stop to stop; what each is from there on, all that came before says.

    Number n is what member n % candidates is in generation n // candidates, mostly what it was.
    """
    known: list[Outcome] = []
    seeds, before = tuple(range(size.seeds)), dict[int, Config | None]()
    for stop in (*stops(how, size.rungs), size.rungs):
        field = {}
        for member in range(how.candidates):
            config = propose(len(known) + member, known)
            if config is None:
                return
            field[member] = config
        limits = dict.fromkeys(range(stop, size.rungs - 1), math.inf)
        # Who goes on as another comes first: it begins where that one stands until it goes on.
        order = sorted(field, key=lambda member: field[member] == before.get(member))
        tries = [Try(len(known) + member, field[member], seeds, limits) for member in order]
        found = dict(zip(order, (yield tries), strict=True))
        known += [found[member] for member in field]
        before = {**field}
    told += known[-how.candidates :]


class Bracket(NamedTuple):
    """Candidates that begin together, and the rungs at which the best of them are chosen."""

    candidates: int
    stops: tuple[int, ...]


def bracket(prune: Prune, rungs: int, first: int) -> Bracket:
    """Return the bracket that begins with candidate number *first*, of those that take turns.

    The first has the most candidates, stopped the earliest (Li et al., JMLR 2018, algorithm 1,
    where R is *rungs* and the least that is given to anybody is `grace` of it).
    """
    eta, slack = prune.eta, 1e-9  # where a logarithm should have come out whole
    most = math.floor(math.log(rungs / max(1.0, prune.grace * rungs), eta) + slack)
    while True:
        for s in range(most, -1, -1):
            number = math.ceil((most + 1) / (s + 1) * eta**s - slack)
            if first < number:
                stops = (math.ceil(rungs / eta ** (s - k) - slack) - 1 for k in range(s))
                return Bracket(number, tuple(dict.fromkeys(stops)))
            first -= number


def _hyperband(prune: Prune, field: Field, size: Size) -> Tries:
    """Halve the field at each stop: the best go on from where they stand."""
    stops = bracket(prune, size.rungs, min(field)).stops
    seeds, found, going = tuple(range(size.seeds)), dict[int, Outcome](), list(field)
    for halved, stop in enumerate((*stops, size.rungs), start=1):
        limits = dict.fromkeys(range(stop, size.rungs - 1), math.inf)  # a rollout may pass a stop
        told = yield [Try(number, field[number], seeds, limits) for number in going]
        found |= zip(going, told, strict=True)
        there = [number for number in going if found[number].state == "pruned"]
        there.sort(key=lambda number: found[number].value, reverse=True)
        going = there[: max(1, math.floor(len(field) / prune.eta**halved))]
        if not going:
            break
    return [found[number] for number in field]


def _seed_by_seed(prune: Prune, field: Field, told: Sequence[Outcome], size: Size) -> Tries:
    """Play one seed after another; who is clearly worse than the best is not played on the rest.

    "both": on each seed, a candidate is also stopped by the curves of earlier ones on that seed.
    """
    found: dict[int, Outcome] = {number: Outcome(field[number], "open", {}) for number in field}
    for seed in range(size.seeds):
        going = [number for number in field if found[number].state in ("open", "finished")]
        able = [o for o in told if o.state != "failed" and seed < len(o.curves)]
        limits = bars(prune, [o.curves[seed] for o in able], size.rungs)
        news = yield [Try(number, field[number], (seed,), limits) for number in going]
        for number, outcome in zip(going, news, strict=True):
            found[number] = joined(found[number], outcome)
        if seed + 1 < size.seeds:  # then there is something left to save
            _race(prune, found, [o for o in told if o.state == "finished"], seed + 1)
    return list(found.values())


def _race(prune: Prune, found: dict[int, Outcome], before: Sequence[Outcome], seeds: int) -> None:
    """Prune, of those that finished all *seeds* so far, who is clearly worse than the best."""
    racing = {number: outcome for number, outcome in found.items() if outcome.state == "finished"}
    rivals = [outcome.by_seed[:seeds] for outcome in (*before, *racing.values())]
    best = max(rivals, key=mean, default=())
    for number, outcome in racing.items():
        if signed_rank(outcome.by_seed, best) < prune.p:
            found[number] = outcome._replace(state="pruned")
