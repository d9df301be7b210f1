"""What is played for an experiment, and in which order: a story an arm, told in waves of bundles.

A story is told from the start each time, whatever was played before: what its waves hold is
worked out from the journal, and what is already known is not played again.
"""

from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from msgspec.structs import replace

from rigorl import contract, crash, objectives, plan, populations, search, space
from rigorl.hunting import Size, Try, hunt, then
from rigorl.plan import Story
from rigorl.search import NEWBORN, Outcome, Standing
from rigorl.searches import BY_SCORE, Search
from rigorl.spec import Arm, Experiment
from rigorl.trial import Bundle, Event, Failure, Report, Trial

Config = Mapping[str, Any]
Ask = Callable[[Search, int, Sequence[Outcome]], Config]
"""What to try as candidate number n, given what earlier ones were worth. Pure."""


class Known(Protocol):
    """What stories ask of a journal, and tell it."""

    def record(self, trials: Sequence[Trial], events: Sequence[Event]) -> None: ...
    def standings(self, study: str) -> Mapping[str, Standing]: ...
    def reports(self, trials: Collection[str], /) -> Mapping[str, Sequence[Report]]: ...
    def propose(self, study: str, search_id: str, number: int, config: Config) -> None: ...
    def proposed(self, search_id: str) -> Mapping[int, Config]: ...


@dataclass
class Found:
    """What searches have come to so far."""

    chosen: dict[str, Config] = field(default_factory=dict)
    """The configuration of each arm that has one; none of its own for one that does not search."""
    hunts: dict[str, list[list[Outcome]]] = field(default_factory=dict)
    """The candidates of each arm that searches, in their order, of each time that it searched."""


def stories(spec: Experiment, found: Found, journal: Known, ask: Ask | None) -> Iterator[Story]:
    """Tell one story an arm, and one of what acting at random earns.

    Arms come after those that they build on, and searches, which are the longest, first.
    """
    for arm in sorted(spec.arms, key=lambda arm: (_depth(spec, arm), not spec.arms[arm].search)):
        waits = {before for before in (spec.arms[arm].after,) if before}
        if arm in _needed_for_tuning(spec):
            tune = _on_tuning_seeds(spec, arm, found.chosen, journal)
            yield Story(f"{arm}:tune", frozenset(waits | _tunes(waits)), tune)
        waves = _arm(spec, arm, found, journal, ask)
        how = spec.arms[arm].search
        yield Story(arm, frozenset(waits | _tunes(waits)), waves)
        for repeat in range(1, how.repeats if how else 0):
            waves = _again(spec, arm, repeat, found, journal, ask)
            yield Story(f"{arm}:{repeat}", frozenset(waits | _tunes(waits)), waves)
    yield Story(":random", frozenset(), _random(spec, journal))


def searches(spec: Experiment, found: Found, journal: Known, ask: Ask) -> Iterator[Story]:
    """Tell how each arm that stands alone is tuned, and no exam."""
    for arm, how in spec.arms.items():
        if how.search and not how.after:
            waves = _search(spec, arm, 0, found, journal, ask)
            yield Story(arm, frozenset(), waves)


def told(spec: Experiment, journal: Known) -> Found:
    """Return what searches have come to, as far as *journal* tells. Nobody is asked, or plays."""
    found = Found()
    for story in stories(spec, found, journal, None):
        for wave in story.waves:
            if any(trial.phase == "tune" for bundle in wave for trial in bundle.trials):
                break  # the arm's choice is still open
    return found


def _depth(spec: Experiment, arm: str) -> int:
    after = spec.arms[arm].after
    return 0 if after is None else 1 + _depth(spec, after)


def _tunes(arms: Collection[str]) -> set[str]:
    return {f"{arm}:tune" for arm in arms}


def _needed_for_tuning(spec: Experiment) -> set[str]:
    """Return the arms that do not search and on whose tuning seeds a search builds."""
    needed: set[str] = set()
    for arm in spec.arms.values():
        after = arm.after if arm.search else None
        while after is not None and spec.arms[after].search is None:
            needed.add(after)
            after = spec.arms[after].after
    return needed


def _on_tuning_seeds(
    spec: Experiment, arm: str, chosen: Mapping[str, Config], journal: Known
) -> Iterator[list[Bundle]]:
    trials = plan.trials(spec, arm, "tune", chosen, spec.seeds.tune)
    yield _left(_one_by_one(trials), journal.standings(spec.name))


def _random(spec: Experiment, journal: Known) -> Iterator[list[Bundle]]:
    yield _left(_one_by_one(plan.random_trials(spec)), journal.standings(spec.name))


def _arm(
    spec: Experiment, arm: str, found: Found, journal: Known, ask: Ask | None
) -> Iterator[list[Bundle]]:
    """Tell how *arm* is tuned and goes to the exam. Its choice is written into *found*."""
    chosen = found.chosen
    after = spec.arms[arm].after
    if after is not None and after not in chosen:
        return  # the search of that arm found nothing
    if spec.arms[arm].search is None:
        chosen[arm] = {}
    else:
        winner = yield from _search(spec, arm, 0, found, journal, ask)
        if winner is None:
            return
        chosen[arm] = winner
    exams = plan.trials(spec, arm, "test", chosen, spec.seeds.test)
    exams += plan.reference_trials(spec, arm, chosen[arm])
    yield _left(_one_by_one(exams), journal.standings(spec.name))


def _again(
    spec: Experiment, arm: str, repeat: int, found: Found, journal: Known, ask: Ask | None
) -> Iterator[list[Bundle]]:
    """Tell how *arm* is tuned once more, from another search seed, and goes to the exam."""
    after = spec.arms[arm].after
    if after is not None and after not in found.chosen:
        return
    winner = yield from _search(spec, arm, repeat, found, journal, ask)
    if winner is not None:
        exams = plan.trials(spec, arm, "test", {**found.chosen, arm: winner}, spec.seeds.test)
        yield _left(_one_by_one(exams), journal.standings(spec.name))


def _search(
    spec: Experiment, arm: str, repeat: int, found: Found, journal: Known, ask: Ask | None
) -> Generator[list[Bundle], None, Config | None]:
    """Tell a search of *arm*, write what came of its candidates into *found*, return the winner."""
    how, chosen = spec.arms[arm].search, found.chosen
    assert how is not None  # noqa: S101
    how = replace(how, seed=how.seed + repeat)
    search_id = plan.search_id(spec, arm, chosen, repeat)
    proposed = dict(journal.proposed(search_id))

    def propose(number: int, told: Sequence[Outcome]) -> Config | None:
        if number not in proposed:
            if ask is None:
                return None  # nobody to ask: what is not yet proposed stays open
            given = _given(spec.arms[arm], number)
            if how.is_population:
                steps = search.steps(spec.budget, len(spec.tasks))
                proposed[number] = populations.member(how, number, told, given, steps)
            else:
                proposed[number] = given or ask(how, number, told)
            journal.propose(spec.name, search_id, number, proposed[number])
        return proposed[number]

    told = found.hunts.setdefault(arm, [[] for _ in range(how.repeats)])[repeat]
    hunting = hunt(how, size(spec), propose, told)
    tries = next(hunting, None)
    while tries is not None:
        bundles = [bundle_of(spec, arm, chosen, one) for one in tries]
        if ask is not None and how.is_population:
            _inherit(bundles, journal)
        yield _left(bundles, measured(spec, arm, bundles, journal))
        crash.point("search.tell")
        known = measured(spec, arm, bundles, journal)
        outcomes = [outcome(t, b, known) for t, b in zip(tries, bundles, strict=True)]
        tries = then(hunting, outcomes)
    winner = objectives.best(how, told) if len(told) == how.candidates else None
    return winner.config if winner else None


def _inherit(bundles: Sequence[Bundle], journal: Known) -> None:
    """Tell *journal* what trials report that are, up to a change, like others that were played.

    They would report the same from scratch; but they may be taken up at the change.
    """
    for bundle in bundles:
        told: list[Report] = []
        known = journal.standings(bundle.trials[0].experiment)
        for trial in bundle.trials:
            like = trial.before_last_change
            if like and not known.get(trial.id, NEWBORN).values:
                reports = journal.reports([like[0].id]).get(like[0].id, ())
                told += [
                    replace(report, trial=trial.id) for report in _until(reports, trial, like[1])
                ]
        if told:
            journal.record(bundle.trials, told)


def _until(reports: Sequence[Report], trial: Trial, steps: int) -> Sequence[Report]:
    """Return those of *reports* that come before a change at *steps*; none if it is ahead."""
    for i, report in enumerate(reports):
        if report.rung is not None and report.stage * trial.budget.steps + report.step >= steps:
            return reports[: i + 1]
    return ()


def size(spec: Experiment) -> Size:
    """Return what a candidate of *spec* is when nothing stops it."""
    return Size(len(spec.seeds.tune), search.rungs(spec.budget, len(spec.tasks)))


def measured(
    spec: Experiment, arm: str, bundles: Sequence[Bundle], journal: Known
) -> Mapping[str, Standing]:
    """Return all standings, those in *bundles* in what the search of *arm* maximises."""
    how, known = spec.arms[arm].search, journal.standings(spec.name)
    if how is None or how.maximise == objectives.SCORE:
        return known
    before = _measured.setdefault(journal, {})
    trials = {trial.id: trial for bundle in bundles for trial in bundle.trials}
    keys = {id_: (id_, how.measures, repr(known[id_])) for id_ in trials if id_ in known}
    new = [trials[id_] for id_, key in keys.items() if key not in before]
    found = objectives.measured(how, new, known, journal.reports)
    before |= {keys[trial.id]: found[trial.id] for trial in new}
    return {**known, **{id_: before[key] for id_, key in keys.items()}}


_measured: WeakKeyDictionary[Known, dict[tuple[Any, ...], Standing]] = WeakKeyDictionary()
"""What was measured before: stories are told often, and what a journal holds of a trial stays."""


def bundle_of(spec: Experiment, arm: str, chosen: Mapping[str, Config], one: Try) -> Bundle:
    """Return what is played for *one* try of the search of *arm*."""
    seeds = [spec.seeds.tune[place] for place in one.seeds]
    trials = plan.trials(spec, arm, "tune", {**chosen, arm: one.config}, seeds)
    how = spec.arms[arm].search
    measure = how.measures[0] if how else BY_SCORE
    return Bundle(trials=tuple(trials), bars=dict(one.bars), measure=measure)


def _given(arm: Arm, number: int) -> Config | None:
    """Return candidate *number* if no sampler is asked: the arm as it comes, or one named."""
    assert arm.search is not None  # noqa: S101
    named = ({}, *arm.search.enqueue)
    if number >= len(named):
        return None
    config = contract.configure(arm.agent)
    as_it_comes = {name: space.setting(config, name) for name in arm.search.space}
    return space.reduced(arm.search.space, {**as_it_comes, **named[number]})


def _one_by_one(trials: Sequence[Trial]) -> list[Bundle]:
    return [Bundle(trials=(trial,)) for trial in trials]


def outcome(one: Try, bundle: Bundle, known: Mapping[str, Standing]) -> Outcome:
    """Return what came of *one* try, which is played in *bundle*."""
    return _judged(one.config, bundle, known)


def _judged(config: Config, bundle: Bundle, known: Mapping[str, Standing]) -> Outcome:
    ours = {trial.id: known[trial.id] for trial in bundle.trials if trial.id in known}
    return search.judge(config, bundle.trials, ours | orphans(bundle.trials, known), bundle.bars)


def _left(bundles: Sequence[Bundle], known: Mapping[str, Standing]) -> list[Bundle]:
    """Return those of *bundles* that are still to be played, and can be, each once."""
    left = {b.id: b for b in bundles if _judged({}, b, known).state == "open"}
    return list(left.values())


def orphans(trials: Sequence[Trial], known: Mapping[str, Standing]) -> dict[str, Standing]:
    """Return those of *trials* that cannot be played: what they build on did not finish."""
    orphans: dict[str, Standing] = {}
    for trial in trials:
        before = known.get(trial.after, NEWBORN) if trial.after else None
        if before and not before.finished and not known.get(trial.id, NEWBORN).failure:
            cause = f"trial {trial.after}, whose policies it needs, did not finish"
            stopped = before.failure is not None and before.failure.alarm
            failure = Failure(
                trial=trial.id, stage=0, step=0, cause=cause, lasting=False, alarm=stopped
            )
            orphans[trial.id] = known.get(trial.id, NEWBORN)._replace(failure=failure)
    return orphans
