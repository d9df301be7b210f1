"""What a search may maximise, and which candidate wins where it maximises several things.

score        the mean score over the tasks begun so far
worst_task   the lowest score on a task begun so far
worst_seed   the score on the seed where it is lowest
forgetting   minus what earlier tasks lost since they were learned, their mean (FORG)
worst_case   the lowest that earlier tasks fell to since, and the score on the latest (WC-ACC)
updates      minus the optimiser steps made
hypervolume  of the mean returns of all policies, above a reference point that the spec fixes;
             the mean over the tasks begun so far (Felten et al. 2023, arXiv 2310.16487)

All are functions of reports. Seconds are none: a run that is told again must decide the same, and
no two runs take the same time. `updates` stands in for them where it is learning that takes time.

A candidate's value is the mean over its seeds, and the minimum for `worst_seed`.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from rigorl.analysis import along as lasting
from rigorl.analysis import fronts
from rigorl.analysis.curves import Curve
from rigorl.analysis.tuning import Candidate, Front
from rigorl.search import NEWBORN, Outcome, Standing, by_task, mean, value
from rigorl.search import best as best_score
from rigorl.searches import Measure, Search
from rigorl.trial import Report, Trial

Reports = Callable[[Collection[str]], Mapping[str, Sequence[Report]]]
"""The reports of some trials."""
SCORE = ("score",)


def at(trial: Trial, report: Report, measure: Measure) -> float:
    """Return what *trial* is worth by *measure* when it made *report*, by that report alone."""
    match measure.objective:
        case "worst_task":
            return min(by_task(trial, report))
        case "updates":
            return -float(report.update)
        case "hypervolume":
            return _hypervolume(trial, report, measure)
        case _:
            return value(trial, report)


def _hypervolume(trial: Trial, report: Report, measure: Measure) -> float:
    points: dict[str, list[list[float]]] = {t.name: [] for t in trial.tasks[: report.stage + 1]}
    for score in report.scores:
        if score.task in points:
            points[score.task].append([mean(column) for column in zip(*score.returns, strict=True)])
    for task, means in points.items():
        measure.check(len(means[0]), task)
    return mean(
        [fronts.hypervolume(means, measure.reference, measure.ideal) for means in points.values()]
    )


def measured(
    how: Search, trials: Iterable[Trial], known: Mapping[str, Standing], reports: Reports
) -> Mapping[str, Standing]:
    """Return *known* with those of *trials* measured by what *how* maximises."""
    if how.maximise == SCORE:
        return known
    ours = {trial.id: trial for trial in trials if known.get(trial.id, NEWBORN).values}
    told = reports(ours.keys())
    return {
        **known,
        **{id_: _measured(how, trial, known[id_], told[id_]) for id_, trial in ours.items()},
    }


def _measured(how: Search, trial: Trial, known: Standing, reports: Sequence[Report]) -> Standing:
    told = sorted(reports, key=lambda report: (report.stage, report.step, report.update))
    exams = {report.rung: n for n, report in enumerate(told) if report.rung in known.values}
    last = max(exams.values())

    curve = Curve.of(trial, told)

    def along(measure: Measure, exams: Sequence[int]) -> list[float]:
        """Return the worth at *exams*, on the scales that tasks give in numbers."""
        match measure.objective:
            case "forgetting":  # NaN while there is but one task
                return list(-lasting.forg(curve.begun_TN, curve.stage_N)[exams])
            case "worst_case":
                return list(lasting.wc_acc(curve.begun_TN, curve.stage_N)[exams])
            case _:
                return [at(trial, told[n], measure) for n in exams]

    rungs = sorted(known.values)
    values = along(how.measures[0], [exams[rung] for rung in rungs])
    vector = [along(measure, [last])[0] for measure in how.measures] if known.finished else ()
    return known._replace(values=dict(zip(rungs, values, strict=True)), vector=tuple(vector))


def worth(how: Search, outcome: Outcome) -> tuple[float, ...]:
    """Return what a candidate that finished is worth, objective by objective."""
    return _over_seeds(how, outcome.vectors) if how.maximise != SCORE else (outcome.value,)


def _over_seeds(how: Search, vectors: Sequence[Sequence[float]]) -> tuple[float, ...]:
    over = (min if name == "worst_seed" else mean for name in how.maximise)
    return tuple(
        fold(column) for fold, column in zip(over, zip(*vectors, strict=True), strict=True)
    )


def best(how: Search, told: Sequence[Outcome]) -> Outcome | None:
    """Return the winner among those that finished, the earlier of equals; none if none did."""
    finished = [outcome for outcome in told if outcome.state == "finished"]
    if how.maximise == SCORE or not finished:
        return best_score(told)
    points = [worth(how, outcome) for outcome in finished]
    if isinstance(how.choose, dict):
        weights = [how.choose.get(name, 0.0) for name in how.maximise]
        return finished[fronts.weighted(points, weights)]
    if how.choose == "first" or len(how.maximise) == 1:
        return finished[points.index(max(points))]  # of equals in the first, by the others
    return finished[fronts.knee(points)]


def front(
    how: Search, told: Sequence[Outcome], winner: Outcome, tests: Sequence[Sequence[float]]
) -> Front | None:
    """Return what there was to choose from; *tests* is the winner on test seeds, if it is known."""
    if how.maximise == SCORE:
        return None
    finished = [n for n, outcome in enumerate(told) if outcome.state == "finished"]
    points = [worth(how, told[n]) for n in finished]
    return Front(
        candidates=tuple(
            Candidate(
                number=finished[place],
                config=dict(told[finished[place]].config),
                tuned=dict(zip(how.maximise, points[place], strict=True)),
                chosen=told[finished[place]] is winner,
            )
            for place in fronts.front(points)
        ),
        test=dict(zip(how.maximise, _over_seeds(how, tests), strict=True)) if tests else {},
    )
