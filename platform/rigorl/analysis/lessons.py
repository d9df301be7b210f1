"""What a sequence of tasks did to an arm, over its seeds, and how much of it is noise.

**Scales.** `measures` are of normalised scores, so that tasks may be averaged. `raw` is of raw
returns and one task at a time: a mean over tasks whose units differ is of no unit.

**Noise floor.** An arm of the agent `frozen` that comes `after` another holds the *final* policies
of that arm's trial on the same seed, and is examined on the same schedule: whatever it shows is
noise of exams and of taking extremes, for nothing was learned or forgotten. It is another policy
than the one that was learned at a switch, so *levels* (ACC, min-ACC, WC-ACC, AAA) of the two do
not compare, and get no excess. What compares is what a trial lost or regained against itself:
falls below the score when learned, depth, area and length of dips, windowed changes. Those of
the placebo are subtracted seed by seed, which are the same test seeds. With exact exams (fixed
episodes, a policy and a world without luck of their own) the floor is 0. It does not know the
noise of *which* episodes an exam has: all exams of a seed have the same ones.
"""

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from msgspec import Struct
from msgspec.structs import replace
from numpy.typing import NDArray

from rigorl.analysis import gap, statistics, transfer
from rigorl.analysis.curves import Curve, normalise
from rigorl.analysis.statistics import Estimate, Luck

Array = NDArray[np.float64]
Ends = Mapping[str, tuple[float, float]]
FROZEN = "frozen"
"""The agent whose arms are placebos."""
LEVELS = frozenset({"acc", "la", "min_acc", "wc_acc", "low_acc", "aaa", f"lca{gap.BETA}"})
"""Measures of how good a policy is, and not of how it changed."""
RAW_LEVELS = frozenset({"now", "learned", "lowest", "low", "worst"})
PAIRED = ("acc", "wc_acc", "min_acc", "forg")
"""Measures by which arms are compared seed by seed."""
RAW = {"acc": "now", "wc_acc": "worst", "min_acc": "lowest", "forg": "forg"}
"""What these are of one task alone, in raw returns."""


class Told(Struct, frozen=True, kw_only=True):
    """A number of each seed, in the order of the test seeds, and what they come to.

    A seed that lacks it has None, and then there is no mean: nothing is averaged over what is
    missing.
    """

    by_seed: tuple[float | None, ...]
    mean: Estimate
    iqm: Estimate


class Span(Struct, frozen=True, kw_only=True):
    """Updates that a window of so many exams spans: over all tasks, times and seeds.

    None where no window was ever full: then `evaluations`, those of the task with most of them,
    are the window.
    """

    median: float | None
    low: float | None
    high: float | None
    evaluations: int


class Floor(Struct, frozen=True, kw_only=True):
    """A placebo: its own measures, and how far those of its arm exceed them, seed by seed."""

    measures: dict[str, Told]
    excess: dict[str, Told]
    """Only of what compares: no levels."""
    raw_excess: dict[str, dict[str, Told]]
    """The same by task, in raw returns."""
    aligned: bool
    """Whether both were examined at the same steps and updates, on every seed."""


class Transfer(Struct, frozen=True, kw_only=True):
    """Learning a task in the sequence against learning it alone, on the same seeds."""

    forward: dict[str, Told]
    """FT of each task, on its scale; empty where returns are raw, for FT needs a best score, 1."""
    mean: Told | None
    """FT, mean over the tasks after the first, before which nothing was learned."""
    gain: dict[str, Told]
    """Mean return over the steps of the own stage, in the sequence minus alone; raw."""


class Lessons(Struct, frozen=True, kw_only=True):
    """What a sequence of tasks did to an arm, seed by seed. Only where all test seeds finished."""

    measures: dict[str, Told]
    """Each number of `Curve.continual`, on the scales of the tasks; empty if one is missing."""
    raw: dict[str, dict[str, Told]]
    """By task, each number of `gap.by_task`, in raw returns."""
    windows: dict[str, Span]
    placebo: dict[str, Floor] = {}
    """By the arm that is one for this arm."""
    transfer: Transfer | None = None
    """None where it was not asked for, or single tasks were not learned on all seeds."""


def tell(values: Sequence[Mapping[str, float]], luck: Luck) -> dict[str, Told]:
    """Return each number of *values*, one mapping a seed. What is not finite is None."""
    names = list(values[0])
    values_SM = np.array([[one[name] for name in names] for one in values])
    whole = np.isfinite(values_SM).all(axis=0)
    known = iter(statistics.each(values_SM[:, whole], luck) if whole.any() else ())
    found = {}
    for name, x_S, has in zip(names, values_SM.T, whole, strict=True):
        seeds = int(np.isfinite(x_S).sum())
        lacking = Estimate(None, None, None, seeds)
        mean, iqm = (Estimate.of(i, seeds) for i in next(known)) if has else (lacking, lacking)
        by_seed = tuple(float(x) if math.isfinite(x) else None for x in x_S)
        found[name] = Told(by_seed=by_seed, mean=mean, iqm=iqm)
    return found


def lessons(
    curves: Sequence[Curve],
    scales: Ends | None,
    windows: Sequence[int],
    luck: Luck,
    placebos: Mapping[str, Sequence[Curve]],
) -> Lessons:
    """Return what the sequence did to an arm with raw *curves*, one a seed; all but `transfer`.

    *placebos* are those of its arms of the agent `frozen` that finished on the same seeds.
    """
    mine = Lessons(
        measures=_measured(curves, scales, windows, luck),
        raw=_raw(curves, windows, luck),
        windows={str(window): _span(curves, window) for window in windows},
    )
    floors = {}
    for name, theirs in placebos.items():
        raw = _raw(theirs, windows, luck)
        measured = _measured(theirs, scales, windows, luck)
        floors[name] = Floor(
            measures=measured,
            excess=minus(mine.measures, measured, set(measured) - LEVELS, luck),
            raw_excess={
                task: minus(told, raw[task], set(told) - RAW_LEVELS, luck)
                for task, told in mine.raw.items()
            },
            aligned=all(_aligned(a, b) for a, b in zip(curves, theirs, strict=True)),
        )
    return replace(mine, placebo=floors)


def transferred(
    curves: Sequence[Curve],
    alone: Sequence[Mapping[str, Curve]],
    scales: Ends,
    luck: Luck,
) -> Transfer | None:
    """Return what the sequence did for learning, against trials on each task *alone*.

    *scales* are those of tasks that have one. None where no task could be compared.
    """
    tasks = curves[0].tasks
    auc_ST, alone_ST = transfer.over_seeds(curves, alone)
    if np.isnan(auc_ST).all():
        return None
    ends_T2 = np.array([scales.get(task, (np.nan, np.nan)) for task in tasks])
    scaled = [normalise(x_ST, ends_T2[:, 0], ends_T2[:, 1]) for x_ST in (auc_ST, alone_ST)]
    forward_ST = np.array([transfer.forward_transfer(*row) for row in zip(*scaled, strict=True)])
    known = [task in scales for task in tasks]
    forward = tell([dict(zip(tasks, row, strict=True)) for row in forward_ST], luck)
    later_S = forward_ST[:, 1:].mean(axis=1)
    return Transfer(
        forward={task: forward[task] for task, has in zip(tasks, known, strict=True) if has},
        mean=tell([{"mean": x} for x in later_S], luck)["mean"] if all(known) else None,
        gain=tell([dict(zip(tasks, row, strict=True)) for row in auc_ST - alone_ST], luck),
    )


def minus(
    a: Mapping[str, Told], b: Mapping[str, Told], names: Collection[str], luck: Luck
) -> dict[str, Told]:
    """Return a minus b, seed by seed: their seeds are the same, and are resampled together."""
    shared = [name for name in a if name in names and name in b]
    seeds = range(len(next(iter(a.values())).by_seed)) if shared else ()
    values = [
        {name: _number(a[name].by_seed[s]) - _number(b[name].by_seed[s]) for name in shared}
        for s in seeds
    ]
    return tell(values, luck) if values else {}


def paired(a: Lessons, b: Lessons, luck: Luck) -> dict[str, Told]:
    """Return the differences of the measures that arms are compared by, on the tasks' scales."""
    return minus(a.measures, b.measures, PAIRED, luck)


def paired_raw(a: Lessons, b: Lessons, luck: Luck) -> dict[str, dict[str, Told]]:
    """Return the same for each task alone, in raw returns."""
    found = {task: minus(a.raw[task], b.raw[task], RAW.values(), luck) for task in a.raw}
    return {
        task: {name: told[own] for name, own in RAW.items() if own in told}
        for task, told in found.items()
    }


def _measured(
    curves: Sequence[Curve], scales: Ends | None, windows: Sequence[int], luck: Luck
) -> dict[str, Told]:
    if scales is None:
        return {}
    return tell([curve.scaled(scales).continual(windows) for curve in curves], luck)


def _raw(curves: Sequence[Curve], windows: Sequence[int], luck: Luck) -> dict[str, dict[str, Told]]:
    found = [curve.by_task(windows) for curve in curves]
    tasks = curves[0].tasks
    return {task: tell([one[row] for one in found], luck) for row, task in enumerate(tasks)}


def _aligned(a: Curve, b: Curve) -> bool:
    """Say whether both were examined at the same steps, and as many updates apart."""
    same_steps = np.array_equal(a.total_step_N, b.total_step_N)
    return same_steps and np.array_equal(np.diff(a.update_N), np.diff(b.update_N))


def _span(curves: Sequence[Curve], window: int) -> Span:
    most = max(int((~np.isnan(c.begun_TN)).sum(axis=1).max()) for c in curves)
    found = gap.spans([curve.window_spans(window) for curve in curves], most)
    median, low, high = (None if math.isnan(x) else x for x in found[:3])
    return Span(median=median, low=low, high=high, evaluations=most)


def _number(value: float | None) -> float:
    return math.nan if value is None else value
