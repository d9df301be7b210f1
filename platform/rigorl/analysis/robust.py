"""What a policy is worth under attack: by fresh attackers, and by pushes written down.

An arm is under attack where another one comes `after` it whose agent is `attacker` or `pushed`. On
each seed that arm's trials examine the policy of the same seed, so all here is told seed by seed,
and differences are of the same seeds. Of several attackers the worst counts, at each strength by
itself: who leaves least of the return, and, of costs and falls, who costs most. A task was attacked
last at the end of its own stage, and that exam counts.

    AUC    return (on the task's scale) under the worst attacker, mean over strengths from 0, the
           policy alone, to 1, by trapezoids; undefined where no attacker has all of the limit
    ratio  cost for each unit of force at the greatest strength, the worst of all attackers. Not at
           smaller ones: costs that are not due to forces would make weak ones look expensive
    slack  eta less that ratio (of force, or of force^2 where the norm is squared), where an eta
           was asked for; below 0 the bound is broken
    response  root of cost / force^2 under forces that swing, the worst of all with that period

What is undefined is None, and never 0.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
from msgspec import Struct

from rigorl.analysis.borne import Borne, borne, measured, response, worst
from rigorl.analysis.bound import bound, unkept
from rigorl.analysis.evidence import Evidence
from rigorl.analysis.lessons import Told, minus, tell
from rigorl.analysis.statistics import Luck
from rigorl.spec import Experiment
from rigorl.tasks.pushes import Push, name
from rigorl.trial import Report

ATTACKS = frozenset({"attacker", "pushed"})
"""Agents whose arms push the policies of others, and answer no question themselves."""
PAIRED = ("nominal", "auc", "auc_fell", "ratio")
"""Measures by which arms are compared seed by seed."""
Table = tuple[tuple[tuple[tuple[float | None, ...], ...], ...], ...]
"""By body, strength, direction and duration."""


class Level(Struct, frozen=True, kw_only=True):
    """Under the worst attacker that has so much of the limit; 0 is the policy alone."""

    strength: float
    earned: Told
    fell: Told
    cost: Told


class Grid(Struct, frozen=True, kw_only=True):
    """Under pushes: means over seeds, and None where one is missing."""

    bodies: tuple[str, ...]
    strengths: tuple[float, ...]
    directions: tuple[str, ...]
    durations: tuple[int, ...]
    earned: Table
    fell: Table


class Robustness(Struct, frozen=True, kw_only=True):
    """What an arm comes to on a task that it is attacked on."""

    measures: dict[str, Told]
    """`nominal` and `nominal_fell`, the policy alone; `auc` and `auc_fell`; `ratio` and
    `energy_ratio`; `slack`, where an eta was asked for."""
    levels: tuple[Level, ...]
    response: dict[str, Told]
    """By period, in steps."""
    grid: Grid | None
    by: tuple[str, ...]
    """The arms that attack it."""


def is_attack(spec: Experiment, arm: str) -> bool:
    """Say whether *arm* pushes another one."""
    return spec.arms[arm].agent.name in ATTACKS


def robustness(evidence: Evidence, arm: str) -> dict[str, Robustness]:
    """Return what *arm* comes to on each task on which it was attacked on all test seeds."""
    spec, luck = evidence.spec, evidence.luck("robust")
    by = [
        other
        for other, one in spec.arms.items()
        if one.after == arm and is_attack(spec, other) and evidence.is_complete(other)
    ]
    found = {}
    for stage, task in enumerate(spec.tasks):
        if task.port is None or not by:
            continue
        seeds = [
            [one for other in by for one in borne(_own(evidence, other, seed, stage), task.name)]
            for seed in range(len(spec.seeds.test))
        ]
        ends = evidence.scales[task.name].ends
        found[task.name] = _told(seeds, ends, bound(evidence, arm), luck, tuple(by))
    return found


def paired(
    a: Mapping[str, Robustness], b: Mapping[str, Robustness], luck: Luck
) -> dict[str, dict[str, Told]]:
    """Return, by task, the measures of *a* minus those of *b* by which arms are compared."""
    return {
        task: minus(a[task].measures, b[task].measures, PAIRED, luck) for task in a if task in b
    }


def notes(evidence: Evidence) -> Iterator[str]:
    """Say which arms are no answers, and whose bound was not kept."""
    attacks = [arm for arm in evidence.spec.arms if is_attack(evidence.spec, arm)]
    if attacks:
        yield (
            f"{', '.join(attacks)} push other arms, and are no answers: they get no score and are "
            "compared with nobody; what the others come to is told under attack"
        )
    yield from unkept(evidence)


def _told(
    seeds: Sequence[Sequence[Borne]],
    ends: tuple[float, float] | None,
    bound: tuple[float, str] | None,
    luck: Luck,
    by: tuple[str, ...],
) -> Robustness:
    curves = [worst(seen) for seen in seeds]
    earning = [worst(seen, by=lambda one: -one.earned) for seen in seeds]

    def over(part: Callable[[Borne], float], strength: float, of: Any = curves) -> Told:
        values = [part(one[strength]) if strength in one else math.nan for one in of]
        return tell([{"x": value} for value in values], luck)["x"]

    levels = tuple(
        Level(
            strength=strength,
            earned=over(lambda one: one.earned, strength, earning),
            fell=over(lambda one: one.fell, strength),
            cost=over(lambda one: one.cost, strength),
        )
        for strength in sorted({s for one in curves for s in one})
    )
    responses = [response(seen) for seen in seeds]
    return Robustness(
        measures=tell([measured(seen, ends, bound) for seen in seeds], luck),
        levels=levels,
        response=tell(responses, luck) if responses[0] else {},
        grid=_grid(seeds),
        by=by,
    )


def _grid(seeds: Sequence[Sequence[Borne]]) -> Grid | None:
    """Return the grid of all pushes; None where there are none."""
    maps = [{what: one for one in seen if isinstance(what := one.what, Push)} for seen in seeds]
    pushes = list(maps[0])
    if not pushes:
        return None
    bodies = tuple(dict.fromkeys(what.body for what in pushes))
    strengths = tuple(dict.fromkeys(what.strength for what in pushes))
    ways = tuple(dict.fromkeys(what.direction for what in pushes))
    durations = tuple(dict.fromkeys(what.steps for what in pushes))
    labels = tuple(name(Push("x", 1.0, way, 1)).split(":")[3] for way in ways)

    def table(part: str) -> Table:
        def mean(what: Push) -> float | None:
            # A push that came after the end of all episodes was none.
            values = [getattr(one[what], part) for one in maps if what in one and one[what].force]
            return float(np.mean(values)) if len(values) == len(maps) else None

        cells = [mean(Push(*where)) for where in product(bodies, strengths, ways, durations)]
        shape = len(bodies), len(strengths), len(ways), len(durations)
        nested: Table = _nested(np.array(cells, dtype=object).reshape(shape).tolist())
        return nested

    return Grid(
        bodies=bodies,
        strengths=strengths,
        directions=labels,
        durations=durations,
        earned=table("earned"),
        fell=table("fell"),
    )


def _own(evidence: Evidence, arm: str, seed: int, stage: int) -> Report:
    """Return what *arm* said on its seed number *seed* at the end of *stage*."""
    trial = evidence.tests(arm)[seed]
    return [r for r in evidence.reports[trial.id] if r.stage == stage and r.stage_ended][-1]


def _nested(rows: Any) -> Any:
    return tuple(map(_nested, rows)) if isinstance(rows, list) else rows
