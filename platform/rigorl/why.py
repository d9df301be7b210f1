"""Why trials wait, were in trouble or failed, in words."""

import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Literal

from msgspec import Struct

from rigorl import experiment, plan
from rigorl.outside.journal import Past, SqlJournal, State, driver, pasts
from rigorl.outside.live import FRESH, is_of
from rigorl.spec import Experiment
from rigorl.trial import Bundle

Now = Literal["waits", "troubled", "silent", "stopped", "failed"]


class Why(Struct, frozen=True):
    """A trial that does not simply run. Those not known yet stand together, without a seed."""

    arm: str
    phase: str
    seed: int | None
    trials: int
    now: Now
    why: str
    troubles: tuple[str, ...] = ()
    attempts: int = 0
    host: str = ""


def driving(journal: SqlJournal, study: str) -> str:
    """Say what keeps *study* from going on, if nobody drives it; empty if somebody does."""
    state = journal.state(study)
    if state in ("running", "died"):
        return driver(journal.database, study)
    said = {"done": "it is done", "failed": "it ended, with failures", "stopped": "it was stopped"}
    return said.get(state, "nobody drives it")


def whys(spec: Experiment, journal: SqlJournal, *, driven: bool) -> list[Why]:
    """Return the trials of *spec* that wait, were in trouble or failed, and why.

    If it is not *driven*, nothing waits: what is not done goes on with the next driver.
    """
    states = [state for state in journal.states(spec.name) if is_of(spec, state)]
    befell = pasts(journal.database, spec.name)
    waves = experiment.left(spec, journal)
    known = {state.trial.id: state for state in states}
    to_do = [trial for wave in waves.values() for bundle in wave for trial in bundle.trials]
    open_ = [known.get(trial.id, State(trial)) for trial in to_do]
    found = [_why(state, befell.get(state.trial.id, Past()), driven=driven) for state in open_]
    failed = [state for state in states if state.failure]
    found += [_why(state, befell.get(state.trial.id, Past()), driven=driven) for state in failed]
    over = journal.state(spec.name) == "done"  # whom a search gave up waits for nothing
    later = [] if over else list(_not_yet(spec, [*states, *open_], waves))
    told = [why for why in found if why] + later
    arms = [*spec.arms, plan.UNIFORM]
    return sorted(told, key=lambda why: (arms.index(why.arm), why.phase != "tune"))


def _why(state: State, past: Past, *, driven: bool) -> Why | None:
    """Return what is to be said of a trial; None if it simply runs, or is done."""
    trial, failure = state.trial, state.failure
    still = time.time() - state.at / 1000
    now: Now
    if failure:
        again = "" if failure.lasting else "; the next run tries it again"
        now, why = "stopped" if failure.alarm else "failed", f"{failure.cause}{again}"
    elif state.finished:
        return None
    elif not driven:
        if not state.at:
            return None
        now, why = "stopped", f"at {_place(state)}; it goes on from its last checkpoint"
    elif past.waits or not state.at:
        now, why = "waits", past.waits or "it is in line"
    elif still > FRESH:
        now, why = "silent", f"no sign of life for {still:,.0f} s, at {_place(state)}"
    elif past.troubles:
        now, why = "troubled", f"it plays again, and is at {_place(state)}"
    else:
        return None
    return Why(trial.arm, trial.phase, trial.seed, 1, now, why, *past[1:4])


def _place(state: State) -> str:
    return f"task {state.stage + 1} of {len(state.trial.tasks)}, step {state.step:,}"


def _not_yet(
    spec: Experiment, states: Sequence[State], waves: Mapping[str, Sequence[Bundle]]
) -> Iterator[Why]:
    """Tell of trials that nobody can name yet, for they rest on what others will show."""
    seen = {(s.trial.arm, s.trial.phase, s.trial.id) for s in states}
    known: Counter[tuple[str, str]] = Counter((arm, phase) for arm, phase, _ in seen)
    missing = {what: planned - known[what] for what, planned in plan.counts(spec).items()}
    unsettled = {name.removesuffix(":tune") for name, wave in waves.items() if wave}
    unsettled |= {arm for (arm, _), number in missing.items() if number > 0}
    for (arm, phase), number in missing.items():
        if number > 0 and (why := _waits_for(spec, arm, phase, known, unsettled, waves)):
            yield Why(arm, phase, None, number, "waits", why)


def _waits_for(
    spec: Experiment,
    arm: str,
    phase: str,
    known: Mapping[tuple[str, str], int],
    unsettled: Collection[str],
    waves: Mapping[str, Sequence[Bundle]],
) -> str:
    after, search = spec.arms[arm].after, spec.arms[arm].search
    if after in unsettled:
        return f"for arm {after!r}, whose policies it is given"
    if after and not search:
        return f"in vain: trials of arm {after!r}, whose policies it needs, did not finish"
    if phase == "tune":
        playing = sum(len(bundle.trials) for bundle in waves.get(arm, ()))
        if playing:
            return f"for the generation before, of which {playing} trials are open"
        return "to be proposed" if not known[arm, "test"] else ""
    if waves.get(arm) or known[arm, "tune"] < plan.counts(spec)[arm, "tune"]:
        return "for the search, which chooses its settings"
    return "in vain: the search of its settings found none that finished"
