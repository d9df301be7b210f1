"""Trials played side by side by one worker: a candidate on all its seeds, or one alone."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from rigorl import search
from rigorl.checkpoint import Store
from rigorl.contract import Crew
from rigorl.errors import TrialFailed
from rigorl.examining import Exams
from rigorl.run import Run
from rigorl.trial import Beat, Bundle, Event, Failure, Report


def play(
    bundle: Bundle, crew: Crew, storage: Path | Store | None, exams: Exams | None = None
) -> Iterator[Event]:
    """Play the trials of *bundle* in lockstep, one rung at a time; stop below the bars.

    A trial that fails ends its bundle: a candidate that breaks on one seed is broken. Whoever
    takes the exams, and however long they take, the same is told and ends at the same place.
    """
    runs = [Run(trial, crew, storage, exams, bundle.measure) for trial in bundle.trials]
    for run in runs:
        yield run.start
        yield from run.recovered
    judged = -1
    try:
        while True:
            reached = min(run.rung for run in runs)
            if reached > judged and (bundle.bars or len(runs) > 1):
                judged = reached
                for run in runs:
                    yield from run.settle()
            if _falls_behind(bundle.bars, runs):
                yield from _pause(runs, bundle.bars[reached])
                return
            going = [run for run in runs if not run.finished]
            if not going:
                return
            run = min(going, key=lambda run: run.rung)
            yield from _in_turn(runs, run)
    except TrialFailed as error:
        yield from _failure(runs, run, error)
    finally:
        for run in runs:
            run.close()


def _pause(runs: Sequence[Run], bar: float) -> Iterator[Event]:
    """Save what stopped where nobody gets further, for then it may go on later."""
    for run in runs if bar == math.inf else ():
        yield from run.pause()


def _in_turn(runs: Sequence[Run], run: Run) -> Iterator[Event]:
    """Play on; what earlier runs were examined in before is told, or fails, before a report."""
    for event in _to_next_rung(run):
        if isinstance(event, Report):
            for earlier in runs[: runs.index(run)]:
                yield from earlier.settle()
        yield event


def _to_next_rung(run: Run) -> Iterator[Event]:
    """Play on until the others may catch up. What ends a stage is saved first, and said to be."""
    before = run.rung
    for event in run:
        yield event
        saved = isinstance(event, Beat) and event.saved
        if run.rung > before and (run.place.step > 0 or saved):
            return


def _failure(runs: Sequence[Run], run: Run, error: TrialFailed) -> Iterator[Event]:
    """Tell what failed first: an exam of a run before *run* may have, and not be known yet."""
    run = next((run for run in runs if run.trial.id == error.trial), run)
    for earlier in runs[: runs.index(run)]:
        try:
            yield from earlier.settle()
        except TrialFailed as first:
            run, error = earlier, first
            break
    stage, step = error.place or (run.place.stage, run.place.step)
    yield Failure(
        trial=run.trial.id,
        stage=stage,
        step=step,
        cause=str(error),
        lasting=True,
        alarm=error.alarm,
    )


def _falls_behind(bars: Mapping[int, float], runs: Sequence[Run]) -> bool:
    """Say whether the mean over *runs* misses a bar at the last rung that all have reached."""
    rung = min(run.rung for run in runs)
    if rung not in bars or not all(rung in run.place.values for run in runs):
        return False
    return search.mean([run.place.values[rung] for run in runs]) < bars[rung]
