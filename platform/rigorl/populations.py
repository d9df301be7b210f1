"""A population whose worst members go on as the best ones do, with other settings.

Population based training (Jaderberg et al. 2017, arXiv 1711.09846): at each stop, whoever is
among the worst quarter goes on from where one of the best quarter stands, with settings near to
its; all others go on as they are. PB2 (`bandit.py`) takes numbers that gain most, not near ones.

A member is what it was from its birth on: settings, and a schedule of what they became. So it is
an order like any other, that can be played from scratch. Pure: what a member is from a stop on is
drawn from a stream of (search seed, generation, member), by what came of all of them there.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rigorl.bandit import Belief, Tried, best, climbed, learned
from rigorl.errors import SpecError
from rigorl.schedules import SCHEDULE, at
from rigorl.search import Outcome
from rigorl.searches import Search
from rigorl.seeds import stream
from rigorl.space import Choice, Integer, Over, Real, Space, Value, holds

Config = Mapping[str, Any]
QUARTER = 0.25
"""Of a population go on as another quarter does; and of settings are drawn anew."""
FACTORS = (1.2, 0.8)
TRIES = 100
"""So often settings that break a law are drawn again; then the donor's are kept."""
POOL = 1_000
"""Points, anywhere in the space, of which the most hopeful is chosen."""


def stops(how: Search, rungs: int) -> list[int]:
    """Return the rungs at which a population pauses: every so many, but for the last one."""
    every = how.every or 1
    return list(range(every - 1, rungs - 1, every))


def member(
    how: Search, number: int, told: Sequence[Outcome], given: Config | None, steps: Sequence[int]
) -> Config:
    """Return what is played as *number* = generation * candidates + member.

    *told* holds what came of all earlier numbers, *given* what a person chose for this one, and
    `steps[r]` the environment steps that a trial has made at rung r.
    """
    generation, slot = divmod(number, how.candidates)
    pauses = stops(how, len(steps))
    if generation == 0:
        first = given or _newborn(how, _luck(how, 0, slot))
        return {**first, SCHEDULE: [[steps[stop], {}] for stop in pauses]}
    last, stop = told[number - slot - how.candidates : number - slot], pauses[generation - 1]
    luck = _luck(how, generation, slot)
    donor = _donor(last, stop, slot, luck)
    if donor is None:
        return last[slot].config
    now = settings(donor, steps[stop])
    new = _near(how, now, luck)
    if how.sampler == "pb2":
        new |= _hopeful(how, generation, slot, told, steps)
    return _changed(donor, steps[stop], now, new)


def _luck(how: Search, generation: int, slot: int) -> np.random.Generator:
    return np.random.default_rng(stream(how.seed, "pbt", generation, slot))


def settings(config: Config, steps: int) -> dict[str, Any]:
    """Return what a member is set to once *steps* were made."""
    first = {name: value for name, value in config.items() if name != SCHEDULE}
    return at(first, config[SCHEDULE], steps)


def worth(outcome: Outcome, stop: int) -> float | None:
    """Return what a member was worth when it came to *stop*; None if it failed.

    A rollout may have carried it past that rung: then at the next one that it saw.
    """
    if outcome.state == "failed":
        return None
    return next((outcome.values[rung] for rung in sorted(outcome.values) if rung >= stop), None)


def _donor(
    last: Sequence[Outcome], stop: int, slot: int, rng: np.random.Generator
) -> Config | None:
    """Return the member as which *slot* goes on, one of the best; None if it goes on as it is."""
    worths = {i: w for i, one in enumerate(last) if (w := worth(one, stop)) is not None}
    ranked = sorted(worths, key=lambda i: worths[i], reverse=True)
    few = math.floor(QUARTER * len(last))
    going = ranked[: len(last) - few]  # who failed is among the worst
    if slot in going or not ranked:
        return None
    return last[ranked[int(rng.integers(min(few, len(ranked))))]].config


def _changed(donor: Config, step: int, now: Config, new: Config) -> Config:
    """Return *donor* with the settings *new*, where they differ, from *step* on."""
    change = {name: value for name, value in new.items() if value != now[name]}
    marks = [[s, change if s == step else dict(then)] for s, then in donor[SCHEDULE]]
    return {**donor, SCHEDULE: marks}


def _newborn(how: Search, rng: np.random.Generator) -> Config:
    drawn = {name: _drawn(over, rng) for name, over in how.space.items()}
    for _ in range(TRIES):
        if _is_lawful(how, drawn):
            return drawn
        drawn = {name: _drawn(over, rng) for name, over in how.space.items()}
    raise SpecError(
        f"a sampler must find what `constraints` allow, but {how.sampler} has found nothing in "
        f"{TRIES} tries; loosen them, or tighten the space"
    )


def _is_lawful(how: Search, config: Config) -> bool:
    return all(holds(law, config) for law in how.constraints)


def _near(how: Search, now: Config, rng: np.random.Generator) -> dict[str, Any]:
    """Return settings near to *now*: each a fifth more or less, or drawn anew."""
    for _ in range(TRIES):
        new = {name: _perturbed(over, now[name], rng) for name, over in how.space.items()}
        if _is_lawful(how, new):
            return new
    return {name: now[name] for name in how.space}


def _perturbed(over: Over, value: Any, rng: np.random.Generator) -> Any:
    anew, factor = rng.random() < QUARTER, FACTORS[rng.integers(len(FACTORS))]
    if anew:
        return _drawn(over, rng)
    if isinstance(over, Choice) or not _is_number(value):  # None is "off", as it came
        return value
    moved = value * factor
    if isinstance(over, Integer):  # 2 becomes 3 or 1, and never stays
        moved = math.ceil(moved) if moved > value else math.floor(moved)
        return min(max(moved, over.low), over.high)
    return _within(over, moved)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _hopeful(
    how: Search, generation: int, slot: int, told: Sequence[Outcome], steps: Sequence[int]
) -> dict[str, Any]:
    """Return the numbers of which *slot* may hope most, beside what others go on with."""
    n, step = how.candidates, steps[stops(how, len(steps))[generation - 1]]
    last, stop = told[(generation - 1) * n : generation * n], stops(how, len(steps))[generation - 1]
    tried = _tried(how, told[: generation * n], steps)
    belief = learned(tried) if tried else None
    lucks = [_luck(how, generation, i) for i in range(n)]
    donors = [_donor(last, stop, i, lucks[i]) for i in range(n)]
    stay = [settings(one.config, step) for one, by in zip(last, donors, strict=True) if by is None]
    chosen = [x for config in stay if (x := _shares(how.space, config))]
    new: dict[str, Any] = {}
    for donor, luck in zip(donors[: slot + 1], lucks, strict=False):
        if donor is not None:
            new = _near(how, settings(donor, step), luck)
            if belief:
                new |= _hoped(how, new, belief, chosen, generation, luck)
            chosen += [x] if (x := _shares(how.space, new)) else []
    return {name: new[name] for name in _numbers(how.space)}


def _hoped(
    how: Search,
    near: Config,
    belief: Belief,
    chosen: Sequence[Sequence[float]],
    now: int,
    luck: np.random.Generator,
) -> dict[str, Any]:
    """Return the numbers of which one may hope most, with the choices of *near*."""
    pool = luck.random((POOL, len(_numbers(how.space))))
    lawful = [x for x in pool if _is_lawful(how, {**near, **_values(how.space, x)})]
    if not lawful:
        return {}
    beside = np.array(chosen).reshape(-1, pool.shape[1])
    x = best(belief, beside, now, np.array(lawful))
    if not how.constraints:
        x = climbed(belief, beside, now, x, luck)
    return _values(how.space, x)


def _tried(how: Search, told: Sequence[Outcome], steps: Sequence[int]) -> Tried | None:
    """Return what settings gained from stop to stop, against the mean of all in that time.

    So what was there before the first exam, and is the same for all, need not be known.
    """
    rows: list[tuple[Any, int, float]] = []
    pauses = stops(how, len(steps))
    for generation in range(len(told) // how.candidates):
        here, born = pauses[generation], generation == 0
        since = 0 if born else steps[pauses[generation - 1]]
        found = []
        for one in told[generation * how.candidates : (generation + 1) * how.candidates]:
            after, x = worth(one, here), _shares(how.space, settings(one.config, since))
            before = 0.0 if born else worth(one, pauses[generation - 1])
            if after is not None and before is not None and x is not None:
                found.append((x, generation, after - before))
        mean = math.fsum(gain for *_, gain in found) / max(1, len(found))
        rows += [(x, time, gain - mean) for x, time, gain in found]
    if not rows:
        return None
    x_N, time_N, gain_N = zip(*rows, strict=True)
    return Tried(np.array(x_N), np.array(time_N, float), np.array(gain_N))


def _numbers(space: Space) -> list[str]:
    return [name for name, over in space.items() if not isinstance(over, Choice)]


def _shares(space: Space, config: Config) -> list[float] | None:
    """Return the numbers of *config*, each from 0 to 1; None if one of them is "off"."""
    names = _numbers(space)
    if not all(_is_number(config[name]) for name in names):
        return None
    return [_share(space[name], config[name]) for name in names]


def _values(space: Space, x_D: Any) -> dict[str, Any]:
    shares = zip(_numbers(space), x_D, strict=True)
    return {name: _value(space[name], float(share)) for name, share in shares}


def _drawn(over: Over, rng: np.random.Generator) -> Value:
    if isinstance(over, Choice):
        return over.of[int(rng.integers(len(over.of)))]
    return _value(over, float(rng.random()))


def _value(over: Over, share: float) -> Value:
    """Return the number that stands at *share* of the way through a dimension."""
    assert not isinstance(over, Choice)  # noqa: S101
    low, high = float(over.low), float(over.high)
    exact = low * (high / low) ** share if over.log else low + (high - low) * share
    if isinstance(over, Integer):
        return min(max(round(exact), over.low), over.high)
    return _within(over, exact)


def _share(over: Over, value: Any) -> float:
    """Return how far through its dimension *value* stands, from 0 to 1."""
    assert not isinstance(over, Choice)  # noqa: S101
    if over.log:
        share = math.log(value / over.low) / math.log(over.high / over.low) if value > 0 else 0.0
    else:
        share = (value - over.low) / (over.high - over.low)
    return min(max(share, 0.0), 1.0)


def _within(over: Real, exact: float) -> float:
    """Return *exact* with six digits, as a person would write it, and within bounds."""
    return float(min(max(float(f"{exact:.6g}"), over.low), over.high))
