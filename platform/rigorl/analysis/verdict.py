"""Reports -> verdict: the whole statistical argument, in one pure function.

Intervals are 95 % percentile bootstraps over test seeds. Their random numbers depend on the
experiment's name alone, so the same reports always get the same verdict, to the bit, and
two arms with the same scores the same interval.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from types import MappingProxyType
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from rigorl.analysis import alarm, care, robust, statistics
from rigorl.analysis.curves import Curve, last
from rigorl.analysis.evidence import Evidence
from rigorl.analysis.importance import Importance
from rigorl.analysis.lessons import (
    FROZEN,
    Lessons,
    Told,
    Transfer,
    lessons,
    paired,
    paired_raw,
    transferred,
)
from rigorl.analysis.mishaps import Mishap, mishaps
from rigorl.analysis.robust import Robustness
from rigorl.analysis.scale import Scale, ends, measure
from rigorl.analysis.statistics import Estimate, iqms, means
from rigorl.analysis.tuning import Hunt, Repeats, Tuning, repeats, tuning
from rigorl.spec import Experiment
from rigorl.trial import Failure, Report, Trial


class ArmScore(Struct, frozen=True, kw_only=True):
    """Final scores over all tasks and seeds, each on the scale of its task."""

    iqm: Estimate
    mean: Estimate


class ArmVerdict(Struct, frozen=True, kw_only=True):
    """What is known of one arm. Numbers only if every test seed finished."""

    config: dict[str, Any] | None
    """What its search chose; empty without a search, None while there is no winner."""
    complete: bool
    seeds: tuple[int, ...]
    """Test seeds that finished."""
    missing: tuple[int, ...]
    """Test seeds that did not, failed ones included."""
    failures: tuple[Mishap, ...] = ()
    stopped: tuple[Mishap, ...] = ()
    """Trials that their alarm ended, as was asked for. They count as missing, not as failed."""
    alarms: tuple[alarm.Raised, ...] = ()
    """When a task fell on test seeds that was learned before; none where none is asked for."""
    returns: dict[str, Estimate] = {}
    """Final raw return on each task, the mean over seeds."""
    score: ArmScore | None = None
    """None also if a scale that it needs is missing, or it attacks another arm."""
    continual: dict[str, Estimate] = {}
    """With several tasks: each number of `Curve.continual`, the mean over seeds."""
    lessons: Lessons | None = None
    """The same seed by seed, in raw returns, against its placebos, and forward transfer."""
    robust: dict[str, Robustness] = {}
    """What it comes to under attack, on each task on which other arms attack it."""
    tuning: Tuning | None = None
    """What its search found; None without one, or while there is no winner."""
    repeats: Repeats | None = None
    """What its searches found, where it searched more than once; else None."""
    importance: Importance | None = None
    """Which dimensions mattered; `judge` does not know, the front door says (`telling.weighed`)."""


class Pair(Struct, frozen=True, kw_only=True):
    """Two complete arms compared, their seeds taken as independent, but for what is *paired*."""

    a: str
    b: str
    improvement: Estimate
    """Probability that a seed of *a* earns more than one of *b*, mean over tasks."""
    difference: Estimate | None
    """IQM of *a* minus that of *b*; None if a scale is missing."""
    paired: dict[str, Told] = {}
    """With several tasks: ACC, WC-ACC, min-ACC and FORG of *a* minus those of *b*, seed by seed:
    here the seeds are the same ones, and are resampled together."""
    paired_raw: dict[str, dict[str, Told]] = {}
    """The same of each task alone, in raw returns."""
    robust: dict[str, dict[str, Told]] = {}
    """By task, what *a* comes to under attack minus what *b* does, seed by seed."""


class Verdict(Struct, frozen=True, kw_only=True):
    """The answer, as far as it can be given. JSON holds all of it: there is no NaN in it."""

    name: str
    question: str
    scales: dict[str, Scale]
    arms: dict[str, ArmVerdict]
    pairs: tuple[Pair, ...]
    scale_failures: tuple[Mishap, ...]
    """Trials on a single task, which measure scales and what transfers, that failed."""
    notes: tuple[str, ...]

    @property
    def failures(self) -> tuple[Mishap, ...]:
        """Every trial that failed, of any arm or scale."""
        of_arms = [mishap for arm in self.arms.values() for mishap in arm.failures]
        return (*of_arms, *self.scale_failures)

    @property
    def stopped(self) -> tuple[Mishap, ...]:
        """Every trial that its alarm ended."""
        return tuple(mishap for arm in self.arms.values() for mishap in arm.stopped)


def judge(
    spec: Experiment,
    chosen: Mapping[str, Mapping[str, Any]],
    trials: Sequence[Trial],
    reports: Mapping[str, Sequence[Report]],
    failures: Mapping[str, Failure],
    hunts: Mapping[str, Sequence[Hunt]] = MappingProxyType({}),
) -> Verdict:
    """Return the verdict on *spec*, as far as *reports* support one.

    *chosen* holds the configuration of each arm that has one, *trials* the test trials of
    those arms and all trials that measure scales; *reports* and *failures* go by trial id,
    reports in the order of their making. Order of trials, arms and keys does not matter.
    *hunts* holds what searches came upon.
    """
    scales = measure(spec, chosen, trials, reports)
    evidence = Evidence(spec, chosen, trials, reports, failures, scales, hunts)
    arms = {arm: _arm(evidence, arm) for arm in spec.arms}
    complete = [arm for arm in arms if arms[arm].complete and not robust.is_attack(spec, arm)]
    return Verdict(
        name=spec.name,
        question=spec.question,
        scales=scales,
        arms=arms,
        pairs=tuple(_pair(evidence, arms, a, b) for a, b in combinations(complete, 2)),
        scale_failures=mishaps(evidence, [t for t in trials if t.phase == "scale"]),
        notes=tuple(_notes(evidence, arms)),
    )


def _arm(evidence: Evidence, arm: str) -> ArmVerdict:
    config, hunts = evidence.chosen.get(arm), evidence.hunts.get(arm, ())
    seeds = tuple(trial.seed for trial in evidence.tests(arm))
    missing = tuple(seed for seed in evidence.spec.seeds.test if seed not in seeds)
    mine = [t for t in evidence.trials if t.phase == "test" and t.arm == arm]
    complete = config is not None and not missing
    answers = complete and not robust.is_attack(evidence.spec, arm)
    found = _lessons(evidence, arm) if answers else None
    return ArmVerdict(
        config=None if config is None else dict(config),
        complete=complete,
        seeds=seeds,
        missing=missing,
        failures=mishaps(evidence, mine),
        stopped=mishaps(evidence, mine, by_alarm=True),
        alarms=alarm.of_all(mine, evidence.reports, evidence.spec.alarm),
        returns=_returns(evidence, arm) if answers else {},
        score=_score(evidence, arm) if answers else None,
        continual={name: told.mean for name, told in found.measures.items()} if found else {},
        lessons=found,
        robust=robust.robustness(evidence, arm) if answers else {},
        tuning=tuning(hunts[0], evidence.luck("gap")) if hunts else None,
        repeats=repeats(hunts, evidence.luck("repeats")) if len(hunts) > 1 else None,
    )


def _returns(evidence: Evidence, arm: str) -> dict[str, Estimate]:
    returns_ST = evidence.returns_ST(arm)
    luck = evidence.luck("returns")
    return {
        task.name: Estimate.of(
            statistics.interval(returns_ST[:, [t]], means, luck), len(returns_ST)
        )
        for t, task in enumerate(evidence.spec.tasks)
    }


def _score(evidence: Evidence, arm: str) -> ArmScore | None:
    scores_ST = evidence.scores_ST(arm)
    if scores_ST is None:
        return None
    luck, seeds = evidence.luck("score"), len(scores_ST)
    return ArmScore(
        iqm=Estimate.of(statistics.interval(scores_ST, iqms, luck), seeds),
        mean=Estimate.of(statistics.interval(scores_ST, means, luck), seeds),
    )


def _lessons(evidence: Evidence, arm: str) -> Lessons | None:
    """Return what the sequence did to *arm*, at the end of its trials."""
    spec, luck = evidence.spec, evidence.luck("continual")
    if len(spec.tasks) == 1:
        return None
    curves = evidence.curves(arm)
    placebos = {
        name: evidence.curves(name)
        for name, one in spec.arms.items()
        if one.after == arm and one.agent.name == FROZEN and evidence.is_complete(name)
    }
    scales = ends(evidence.scales)
    found = lessons(curves, scales, spec.windows, luck, placebos)
    return replace(found, transfer=_transfer(evidence, arm, curves)) if spec.transfer else found


def _transfer(evidence: Evidence, arm: str, curves: Sequence[Curve]) -> Transfer | None:
    """Return what transferred to *arm*, with the trials on single tasks of its configuration."""
    agent = evidence.spec.arms[arm].chosen(evidence.chosen[arm])
    alone: dict[int, dict[str, Curve]] = {seed: {} for seed in evidence.spec.seeds.test}
    for trial in evidence.trials:
        mine = trial.phase == "scale" and trial.arm == arm and trial.agent == agent
        if mine and trial.seed in alone and last(trial, evidence.reports):
            curve = Curve.of(trial, evidence.reports[trial.id])
            alone[trial.seed][trial.tasks[0].name] = curve
    known = {n: s.ends for n, s in evidence.scales.items() if s.ends and s.kind != "raw"}
    return transferred(curves, list(alone.values()), known, evidence.luck("transfer"))


def _pair(evidence: Evidence, arms: Mapping[str, ArmVerdict], a: str, b: str) -> Pair:
    a_ST, b_ST = evidence.returns_ST(a), evidence.returns_ST(b)
    # Who earns more on a task is a matter of returns: it needs no scale.
    improvement = statistics.improvement(a_ST, b_ST, evidence.luck("improvement"))
    a_score_ST, b_score_ST = evidence.scores_ST(a), evidence.scores_ST(b)
    difference = None
    if a_score_ST is not None and b_score_ST is not None:
        luck = evidence.luck("difference")
        between = statistics.difference(a_score_ST, b_score_ST, iqms, luck)
        difference = Estimate.of(between, len(a_ST))
    one, other, luck = arms[a].lessons, arms[b].lessons, evidence.luck("paired")
    return Pair(
        a=a,
        b=b,
        improvement=Estimate.of(improvement, len(a_ST)),
        difference=difference,
        paired=paired(one, other, luck) if one and other else {},
        paired_raw=paired_raw(one, other, luck) if one and other else {},
        robust=robust.paired(arms[a].robust, arms[b].robust, luck),
    )


def _notes(evidence: Evidence, arms: Mapping[str, ArmVerdict]) -> Iterator[str]:
    """Yield what a careful reader should know before believing the numbers."""
    spec = evidence.spec
    yield from care.on_scales(spec, evidence.scales)
    yield from care.on_exams(spec)
    yield from care.on_placebos({n: arm.lessons for n, arm in arms.items() if arm.lessons})
    tunings = {name: arm.tuning for name, arm in arms.items() if arm.tuning}
    repeats = {name: arm.repeats for name, arm in arms.items() if arm.repeats}
    whole = len(spec.tasks) * spec.budget.steps * len(spec.seeds.tune)
    searches = {name: arm.search for name, arm in spec.arms.items() if arm.search}
    planned = {name: how.candidates * whole for name, how in searches.items()}
    yield from care.on_searches(tunings, repeats, planned, len(spec.seeds.tune))
    for name, arm in arms.items():
        if arm.config is None:
            yield f"arm {name!r} has no winner of its search, or of one it comes after"
        elif not arm.complete:
            yield f"arm {name!r} gets no score: seeds {list(arm.missing)} are missing"
    yield from robust.notes(evidence)
    yield from care.on_stops({name: [m.seed for m in arm.stopped] for name, arm in arms.items()})
