"""Reports -> what policies bore when they were pushed, and what that comes to on one seed.

What is undefined is NaN here.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from rigorl.analysis.curves import normalise
from rigorl.tasks.pushes import NOMINAL, Attack, Disturbance, Sinus, parse
from rigorl.trial import Report


class Borne(NamedTuple):
    """What one policy came to in an exam: means over episodes.

    `what` is None where it was alone.
    """

    what: Disturbance | None
    earned: float
    fell: float
    cost: float
    force: float
    energy: float


def borne(report: Report, task: str) -> list[Borne]:
    """Return what each policy of *report* came to on *task*, of those that are attacks."""
    found = []
    for score in report.scores:
        what = parse(score.policy)
        if score.task != task or (what is None and score.policy != NOMINAL):
            continue
        told = [
            report.metrics.get(f"{part}/{task}/{score.policy}", math.nan)
            for part in ("fell", "cost", "force", "energy")
        ]
        earned = float(np.mean([objectives[0] for objectives in score.returns]))
        found.append(Borne(what, earned, *told))
    return found


def under_attack(report: Report, tasks: Iterable[str]) -> dict[str, float]:
    """Return the measures of *tasks* in which the trial of *report* pushed, by name, in returns.

    They are called `robust/TASK/MEASURE`.
    """
    found: dict[str, float] = {}
    for task in tasks:
        seen = borne(report, task)
        if any(one.what is not None for one in seen):
            told = measured(seen, (0.0, 1.0), None)
            found |= {f"robust/{task}/{name}": value for name, value in told.items()}
    return found


def measured(
    seen: Sequence[Borne], ends: tuple[float, float] | None, bound: tuple[float, str] | None
) -> dict[str, float]:
    """Return the measures of one seed. What is undefined is NaN."""
    levels, earning = worst(seen), worst(seen, by=lambda one: -one.earned)
    alone = levels.get(0.0)
    found = {
        "nominal": alone.earned if alone else math.nan,
        "nominal_fell": alone.fell if alone else math.nan,
        "auc": math.nan,
        "auc_fell": _area({s: one.fell for s, one in levels.items()}),
    }
    if ends is not None:
        scaled = {s: float(normalise(np.array(one.earned), *ends)) for s, one in earning.items()}
        found["auc"] = _area(scaled)
    most = max(levels, default=0.0)
    full = [o for o in seen if isinstance(o.what, Attack) and o.what.strength == most]
    found["ratio"] = _most(o.cost / o.force for o in full if o.force > 0)
    found["energy_ratio"] = _most(o.cost / o.energy for o in full if o.energy > 0)
    if bound is not None:
        eta, norm = bound
        found["slack"] = eta - found["ratio" if norm == "plain" else "energy_ratio"]
    return found


def worst(
    seen: Sequence[Borne], by: Callable[[Borne], float] = lambda one: one.cost
) -> dict[float, Borne]:
    """Return, by strength, what came of the attacker with most of *by*; at 0 nobody attacks."""
    found: dict[float, Borne] = {}
    for one in seen:
        if one.what is None:
            found.setdefault(0.0, one)
        elif isinstance(one.what, Attack):
            before = found.get(one.what.strength)
            if before is None or by(one) > by(before):
                found[one.what.strength] = one
    return dict(sorted(found.items()))


def response(seen: Sequence[Borne]) -> dict[str, float]:
    """Return, by period, the root of cost / force^2, the worst of all that swing so."""
    periods = sorted({one.what.period for one in seen if isinstance(one.what, Sinus)})
    swing = [(one.what.period, one) for one in seen if isinstance(one.what, Sinus)]
    return {
        str(period): math.sqrt(
            _most(o.cost / o.energy for p, o in swing if p == period and o.energy > 0)
        )
        for period in periods
    }


def _area(by_strength: Mapping[float, float]) -> float:
    """Return the mean from strength 0 to 1, by trapezoids; NaN where one of the ends is missing."""
    if not {0.0, 1.0} <= by_strength.keys():
        return math.nan
    strengths = sorted(by_strength)
    return float(np.trapezoid([by_strength[s] for s in strengths], strengths))


def _most(values: Iterable[float]) -> float:
    return max((value for value in values if math.isfinite(value)), default=math.nan)
