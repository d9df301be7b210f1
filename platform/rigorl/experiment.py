"""The story of an experiment: tune, examine, judge.

The two things it needs from the world are said here, as protocols. Whoever keeps them
(see `rigorl.outside`) need not know this file.

Nothing is remembered but reports, failures and what was proposed. All else (which candidate
was pruned, which one won, what is still to do) is worked out from them each time: that is why
the same command again is the resume.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np

from rigorl import contract, crash, plan, search, space
from rigorl.analysis.tuning import Hunt
from rigorl.analysis.verdict import Verdict, judge
from rigorl.errors import StorageError
from rigorl.plan import Agenda, Story
from rigorl.search import NEWBORN, Outcome, Standing
from rigorl.spec import Arm, Experiment, Search
from rigorl.trial import Bundle, Event, Failure, Report, Start, Trial

Config = Mapping[str, Any]
Ask = Callable[[Search, int, Sequence[Outcome]], Config]
"""What to try as candidate number n, given what earlier generations were worth. Pure."""


Record = Callable[[Sequence[Trial], Sequence[Event]], None]
"""What happened to these trials."""


class Found(NamedTuple):
    """What searches have come to so far."""

    chosen: dict[str, Config]
    """The configuration of each arm that has one; none of its own for one that does not search."""
    hunts: dict[str, list[Outcome]]
    """The candidates of each arm that searches, in their order."""


class Cluster(Protocol):
    """Plays what the agenda offers, and hands over what happens as it comes."""

    def play(self, agenda: Agenda, record: Record) -> None: ...


class Journal(Protocol):
    """Remembers. Only the driver writes; workers never do."""

    def record(self, trials: Sequence[Trial], events: Sequence[Event]) -> None:
        """Insert or compare: a report that came before must be the same now."""

    def standings(self, study: str) -> Mapping[str, Standing]:
        """Return what is known of each trial, by id; kept up to date as events are recorded."""

    def reports(self, trials: Collection[str]) -> Mapping[str, Sequence[Report]]:
        """Return the reports of each of these trials, in the order of their making."""

    def propose(self, study: str, search_id: str, number: int, config: Config) -> None: ...

    def proposed(self, search_id: str) -> Mapping[int, Config]: ...


def run(spec: Experiment, cluster: Cluster, journal: Journal, ask: Ask) -> Verdict:
    """Answer the question that *spec* asks. Run again, it does only what is not yet done."""
    found = Found({}, {})
    agenda = Agenda(list(_stories(spec, found, journal, ask)))
    cluster.play(agenda, _recording(spec, journal))
    return _judge(spec, found, journal)


def _recording(spec: Experiment, journal: Journal) -> Record:
    """Return how to record in *journal*. A trial that goes on from what it lacks is refused."""

    def record(trials: Sequence[Trial], events: Sequence[Event]) -> None:
        journal.record(trials, events)
        for event in events:
            if isinstance(event, Start) and event.rungs:
                known = journal.standings(spec.name).get(event.trial, NEWBORN).values
                if len(known) < event.rungs:
                    raise StorageError(_of_another_journal(event, len(known)))

    return record


def _of_another_journal(start: Start, known: int) -> str:
    return (
        f"a storage must belong to one journal, but trial {start.trial} goes on there after "
        f"{start.rungs} exams, of which this journal knows {known}; name the journal that was "
        f"used before, or another place with --storage, or take {start.trial} away there, and "
        "it is played anew"
    )


def codes(spec: Experiment) -> dict[str, str]:
    """Return, for each agent that *spec* plays, which code that is here and now."""
    agents = {arm.agent.name for arm in spec.arms.values()}
    if any(task.random == "measured" for task in spec.tasks):
        agents.add(plan.UNIFORM)
    return {agent: contract.code(agent) for agent in sorted(agents)}


def verdict(spec: Experiment, journal: Journal) -> Verdict:
    """Return the verdict as far as it can be given from what was played so far."""
    found = Found({}, {})
    for story in _stories(spec, found, journal, None):
        for wave in story.waves:
            if any(trial.phase == "tune" for bundle in wave for trial in bundle.trials):
                break  # the arm's choice is still open
    return _judge(spec, found, journal, settled=False)


def left(spec: Experiment, journal: Journal) -> dict[str, list[Bundle]]:
    """Return the next wave of each story, as far as it is known: what is played or may be."""
    return {
        story.name: next((list(wave) for wave in story.waves if wave), [])
        for story in _stories(spec, Found({}, {}), journal, None)
    }


def _judge(spec: Experiment, found: Found, journal: Journal, *, settled: bool = True) -> Verdict:
    chosen = found.chosen
    trials = plan.random_trials(spec)
    for arm in chosen:
        trials += plan.trials(spec, arm, "test", chosen, spec.seeds.test)
        trials += plan.reference_trials(spec, arm, chosen[arm])
    known = journal.standings(spec.name)
    if settled:
        known = {**known, **_orphans(trials, known)}
    ids = {trial.id for trial in trials}
    failures = {id_: why for id_ in ids & known.keys() if (why := known[id_].failure)}
    hunts = {arm: _numbers(spec, arm, found, known) for arm in found.hunts if arm in chosen}
    return judge(spec, chosen, trials, journal.reports(ids), failures, hunts)


def _numbers(spec: Experiment, arm: str, found: Found, known: Mapping[str, Standing]) -> Hunt:
    """Return what the search of *arm* came upon, in numbers."""
    outcomes = found.hunts[arm]
    exams = plan.trials(spec, arm, "test", found.chosen, spec.seeds.test)
    standings = [known.get(trial.id, NEWBORN) for trial in exams]
    test = [s.values[max(s.values)] for s in standings if s.finished]
    whole = len(spec.tasks) * spec.budget.steps * len(spec.seeds.tune)
    return Hunt(
        states=[outcome.state for outcome in outcomes],
        steps=[outcome.steps for outcome in outcomes],
        whole=whole,
        scores_CS=np.array([o.by_seed for o in outcomes if o.state == "finished"]),
        test_S=np.array(test if len(test) == len(exams) else []),
    )


def _stories(spec: Experiment, found: Found, journal: Journal, ask: Ask | None) -> Iterator[Story]:
    """Tell one story an arm, and one of what acting at random earns.

    Arms come after those that they build on, and searches, which are the longest, first.
    """
    for arm in sorted(spec.arms, key=lambda arm: (_depth(spec, arm), not spec.arms[arm].search)):
        waits = {before for before in (spec.arms[arm].after,) if before}
        if arm in _needed_for_tuning(spec):
            tune = _on_tuning_seeds(spec, arm, found.chosen, journal)
            yield Story(f"{arm}:tune", frozenset(waits | _tunes(waits)), tune)
        waves = _arm(spec, arm, found, journal, ask)
        searches = spec.arms[arm].search is not None
        yield Story(arm, frozenset(waits | _tunes(waits)), waves, searches)
    yield Story(":random", frozenset(), _random(spec, journal))


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
    spec: Experiment, arm: str, chosen: Mapping[str, Config], journal: Journal
) -> Iterator[list[Bundle]]:
    trials = plan.trials(spec, arm, "tune", chosen, spec.seeds.tune)
    yield _left(_one_by_one(trials), journal.standings(spec.name))


def _random(spec: Experiment, journal: Journal) -> Iterator[list[Bundle]]:
    yield _left(_one_by_one(plan.random_trials(spec)), journal.standings(spec.name))


def _arm(
    spec: Experiment, arm: str, found: Found, journal: Journal, ask: Ask | None
) -> Iterator[list[Bundle]]:
    """Tell how *arm* is tuned and goes to the exam. Its choice is written into *found*."""
    chosen = found.chosen
    after = spec.arms[arm].after
    if after is not None and after not in chosen:
        return  # the search of that arm found nothing
    if spec.arms[arm].search is None:
        chosen[arm] = {}
    else:
        yield from _hunt(spec, arm, found, journal, ask)
        if arm not in chosen:
            return
    exams = plan.trials(spec, arm, "test", chosen, spec.seeds.test)
    exams += plan.reference_trials(spec, arm, chosen[arm])
    yield _left(_one_by_one(exams), journal.standings(spec.name))


def _hunt(
    spec: Experiment, arm: str, found: Found, journal: Journal, ask: Ask | None
) -> Iterator[list[Bundle]]:
    """Tell the search of *arm*, a generation a wave, and write what it comes to into *found*."""
    chosen = found.chosen
    how, search_id = spec.arms[arm].search, plan.search_id(spec, arm, chosen)
    assert how is not None  # noqa: S101
    last_rung = search.rungs(spec.budget, len(spec.tasks)) - 1
    proposed = dict(journal.proposed(search_id))
    told = found.hunts[arm] = []
    while len(told) < how.candidates:
        first = len(told)
        numbers = range(first, min(first + how.generation, how.candidates))
        for number in sorted(set(numbers) - proposed.keys()):
            if ask is None:
                return  # nobody to ask: what is not yet proposed stays open
            proposed[number] = _given(spec.arms[arm], number) or ask(how, number, told)
            journal.propose(spec.name, search_id, number, proposed[number])
        bars = search.bars(how.prune, told, last_rung)
        bundles = [
            Bundle(trials=tuple(_tune(spec, arm, chosen, proposed[number])), bars=bars)
            for number in numbers
        ]
        yield _left(bundles, journal.standings(spec.name))
        crash.point("search.tell")
        known = journal.standings(spec.name)
        told += [
            _outcome(proposed[number], bundle, known)
            for number, bundle in zip(numbers, bundles, strict=True)
        ]
    winner = search.best(told)
    if winner is not None:
        chosen[arm] = winner.config


def _given(arm: Arm, number: int) -> Config | None:
    """Return candidate *number* if no sampler is asked: the arm as it comes, or one named."""
    assert arm.search is not None  # noqa: S101
    named = ({}, *arm.search.enqueue)
    if number >= len(named):
        return None
    config = contract.configure(arm.agent)
    as_it_comes = {name: getattr(config, name) for name in arm.search.space}
    return space.reduced(arm.search.space, {**as_it_comes, **named[number]})


def _tune(spec: Experiment, arm: str, chosen: Mapping[str, Config], config: Config) -> list[Trial]:
    return plan.trials(spec, arm, "tune", {**chosen, arm: config}, spec.seeds.tune)


def _one_by_one(trials: Sequence[Trial]) -> list[Bundle]:
    return [Bundle(trials=(trial,)) for trial in trials]


def _outcome(config: Config, bundle: Bundle, known: Mapping[str, Standing]) -> Outcome:
    ours = {trial.id: known[trial.id] for trial in bundle.trials if trial.id in known}
    return search.judge(config, bundle.trials, ours | _orphans(bundle.trials, known), bundle.bars)


def _left(bundles: Sequence[Bundle], known: Mapping[str, Standing]) -> list[Bundle]:
    """Return those of *bundles* that are still to be played, and can be, each once."""
    left = {b.id: b for b in bundles if _outcome({}, b, known).state == "open"}
    return list(left.values())


def _orphans(trials: Sequence[Trial], known: Mapping[str, Standing]) -> dict[str, Standing]:
    """Return those of *trials* that cannot be played: what they build on did not finish."""
    orphans: dict[str, Standing] = {}
    for trial in trials:
        before = known.get(trial.after, NEWBORN) if trial.after else None
        if before and not before.finished and not known.get(trial.id, NEWBORN).failure:
            cause = f"trial {trial.after}, whose policies it needs, did not finish"
            failure = Failure(trial=trial.id, stage=0, step=0, cause=cause, lasting=False)
            orphans[trial.id] = known.get(trial.id, NEWBORN)._replace(failure=failure)
    return orphans
