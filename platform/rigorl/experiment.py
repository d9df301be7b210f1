"""The story of an experiment: tune, examine, judge.

The two things it needs from the world are said here, as protocols. Whoever keeps them
(see `rigorl.outside`) need not know this file.

Nothing is remembered but reports, failures and what was proposed. All else (which candidate
was pruned, which one won, what is still to do) is worked out from them each time: that is why
the same command again is the resume.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

import numpy as np

from rigorl import contract, objectives, plan, search
from rigorl.analysis.tuning import Hunt
from rigorl.analysis.verdict import Verdict, judge
from rigorl.errors import StorageError
from rigorl.plan import Agenda
from rigorl.search import NEWBORN, Standing
from rigorl.spec import Experiment
from rigorl.stories import Ask, Config, Found, orphans, searches, stories, told
from rigorl.tables import Table, table
from rigorl.trial import Bundle, Event, Report, Start, Trial

Record = Callable[[Sequence[Trial], Sequence[Event]], None]
"""What happened to these trials."""


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
    found = Found()
    agenda = Agenda(list(stories(spec, found, journal, ask)))
    cluster.play(agenda, _recording(spec, journal))
    return _judge(spec, found, journal)


def tables(spec: Experiment, cluster: Cluster, journal: Journal, ask: Ask) -> dict[str, Table]:
    """Return what each candidate of each arm that searches is worth on each tuning seed.

    It is played as far as it was not.
    """
    found = Found()
    agenda = Agenda(list(searches(spec, found, journal, ask)))
    cluster.play(agenda, _recording(spec, journal))
    steps = search.steps(spec.budget, len(spec.tasks))
    return {
        arm: table(spec.name, arm, how.space, steps, spec.seeds.tune, found.hunts[arm][0])
        for arm in found.hunts
        if (how := spec.arms[arm].search)
    }


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
    return _judge(spec, told(spec, journal), journal, settled=False)


def left(spec: Experiment, journal: Journal) -> dict[str, list[Bundle]]:
    """Return the next wave of each story, as far as it is known: what is played or may be."""
    return {
        story.name: next((list(wave) for wave in story.waves if wave), [])
        for story in stories(spec, Found(), journal, None)
    }


def _judge(spec: Experiment, found: Found, journal: Journal, *, settled: bool = True) -> Verdict:
    chosen = found.chosen
    trials = plan.random_trials(spec)
    for arm in chosen:
        trials += plan.trials(spec, arm, "test", chosen, spec.seeds.test)
        trials += plan.reference_trials(spec, arm, chosen[arm])
    known = journal.standings(spec.name)
    if settled:
        known = {**known, **orphans(trials, known)}
    ids = {trial.id for trial in trials}
    failures = {id_: why for id_ in ids & known.keys() if (why := known[id_].failure)}
    hunts = {
        arm: _numbers(spec, arm, found, known, journal) for arm in found.hunts if arm in chosen
    }
    return judge(spec, chosen, trials, journal.reports(ids), failures, hunts)


def _numbers(
    spec: Experiment, arm: str, found: Found, known: Mapping[str, Standing], journal: Journal
) -> list[Hunt]:
    """Return what each search of *arm* that is over came upon, in numbers."""
    how, hunts = spec.arms[arm].search, []
    for outcomes in found.hunts[arm]:
        winner = objectives.best(how, outcomes) if how else None
        if how is None or winner is None or len(outcomes) < how.candidates:
            continue
        configs = {**found.chosen, arm: winner.config}
        exams = plan.trials(spec, arm, "test", configs, spec.seeds.test)
        measured = objectives.measured(how, exams, known, journal.reports)
        standings = [measured.get(trial.id, NEWBORN) for trial in exams if trial.id in known]
        finished = [s for s in standings if s.finished]
        test = finished if len(finished) == len(exams) else []
        is_largest = how.maximise[0] != "worst_seed" and len(how.maximise) == 1
        places = [n for n, o in enumerate(outcomes) if o.state == "finished"]
        hunts.append(
            Hunt(
                states=[outcome.state for outcome in outcomes],
                steps=[outcome.steps for outcome in outcomes],
                whole=len(spec.tasks) * spec.budget.steps * len(spec.seeds.tune),
                scores_CS=np.array([o.by_seed for o in outcomes if o.state == "finished"]),
                test_S=np.array([s.values[max(s.values)] for s in test]),
                winner=None if is_largest else [outcomes[n] for n in places].index(winner),
                front=objectives.front(how, outcomes, winner, [s.vector for s in test]),
                akin=how.is_population,
            )
        )
    return hunts
