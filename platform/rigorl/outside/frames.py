"""What a study's tuning and tests earned, as a table for pandas: what figures are drawn from.

A row is a regular exam of a trial. A trial that two searches share, as the arm as it comes may
be, has rows in both.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd

from rigorl import objectives, plan, search
from rigorl.search import NEWBORN, Outcome
from rigorl.space import Choice, Integer, Real
from rigorl.spec import Experiment
from rigorl.stories import Found, Known, told
from rigorl.trial import Phase

TYPES = {
    "arm": "object",
    "search": "Int64",
    "candidate": "Int64",
    "seed": "int64",
    "phase": "object",
    "stage": "int64",
    "step": "int64",
    "value": "float64",
    "state": "object",
    "winner": "bool",
}
DIMENSIONS = {Real: "float64", Integer: "Int64", Choice: "object"}


class _Group(NamedTuple):
    """The trials of a configuration on the seeds of a phase, and what is said of each of them."""

    arm: str
    config: plan.Config
    phase: Phase
    about: dict[str, Any]


def frame(journal: Known, spec: Experiment) -> pd.DataFrame:
    """Return each value that a regular exam of *spec* gave, one a row, as far as it was played.

    `value` is what a search maximises; `step` is where the exam was due, counted from the
    beginning of its `stage`: an agent comes to it at its next safe yield. Of an arm that searches
    a row also says in which `search` (0, or the number of the repeat), and of which `candidate`:
    what it was given (`config.lr`, absent where it does not count), what came of it (`state`, as
    of an `Outcome`) and whether it is the `winner`. No other candidate has rows in phase "test".
    """
    found, known = told(spec, journal), journal.standings(spec.name)
    each = search.rungs(spec.budget, 1)
    rows = []
    for group in _groups(journal, spec, found):
        seeds = spec.seeds.tune if group.phase == "tune" else spec.seeds.test
        configs = {**found.chosen, group.arm: group.config}
        trials, how = (
            plan.trials(spec, group.arm, group.phase, configs, seeds),
            spec.arms[group.arm].search,
        )
        seen = objectives.measured(how, trials, known, journal.reports) if how else known
        for trial in trials:
            curve = seen.get(trial.id, NEWBORN).values  # noqa: PD011  no pandas here
            for rung, value in sorted(curve.items()):
                stage, before = divmod(rung, each)
                step = min((before + 1) * spec.budget.exam_every, spec.budget.steps)
                about = {"arm": group.arm, "phase": group.phase, "seed": trial.seed}
                rows.append(about | {"stage": stage, "step": step, "value": value} | group.about)
    types = TYPES | _dimensions(spec)
    return pd.DataFrame(rows, columns=list(types)).astype(types)


def _dimensions(spec: Experiment) -> dict[str, str]:
    """Return the columns of configurations. Two arms may mean different things by one name."""
    kinds: dict[str, set[str]] = {}
    for arm in spec.arms.values():
        for name, over in (arm.search.space if arm.search else {}).items():
            kinds.setdefault(f"config.{name}", set()).add(DIMENSIONS[type(over)])
    return {name: kind.pop() if len(kind) == 1 else "object" for name, kind in kinds.items()}


def _groups(journal: Known, spec: Experiment, found: Found) -> Iterator[_Group]:
    for name, arm in spec.arms.items():
        if arm.after is not None and arm.after not in found.chosen:
            continue  # nobody knows yet what it builds on
        if arm.search is None:
            yield _Group(name, {}, "tune", {"winner": False})
            yield _Group(name, {}, "test", {"winner": False})
            continue
        for repeat, outcomes in enumerate(found.hunts.get(name, [])):
            proposed = journal.proposed(plan.search_id(spec, name, found.chosen, repeat))
            over = len(outcomes) == arm.search.candidates
            winner = objectives.best(arm.search, outcomes) if over else None
            for number in sorted(proposed.keys() & set(range(arm.search.candidates))):
                yield from _candidate(name, repeat, number, proposed[number], outcomes, winner)


def _candidate(
    arm: str,
    repeat: int,
    number: int,
    config: plan.Config,
    outcomes: Sequence[Outcome],
    winner: Outcome | None,
) -> Iterator[_Group]:
    """Yield candidate *number*, and its test if it won. One under way has no outcome yet."""
    outcome = outcomes[number] if number < len(outcomes) else None
    won = outcome is not None and outcome is winner
    state = outcome.state if outcome else "open"
    about = {"search": repeat, "candidate": number, "winner": won, "state": state}
    about |= {f"config.{name}": value for name, value in config.items()}
    yield _Group(arm, config, "tune", about)
    if won:
        yield _Group(arm, config, "test", about)
