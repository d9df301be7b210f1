"""The terminal: how far a study is, told to stderr while it runs.

A thread of its own reads the journal, as anybody could: `rigorl status` in another window
shows the same. On a terminal it is a table that renews itself; elsewhere a line once in a
while.
"""

import threading
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table

from rigorl import plan
from rigorl.analysis.alarm import Raised, words
from rigorl.errors import JournalError
from rigorl.outside.journal import Lines, SqlJournal, State
from rigorl.outside.raised import Alarms
from rigorl.spec import Experiment

EVERY_TABLE, EVERY_LINE = 1.0, 5.0
"""Seconds between two looks, on a terminal and elsewhere."""
FIRST_LINE = 2.0
"""Seconds until the first line: a short study is told of as well."""
FRESH = 60.0
"""Seconds since the last sign of life after which a trial no longer counts as running."""
LATEST = 5
"""Alarms that are told below the table."""
MEMORY = 20.0
"""Seconds over which the rate is taken."""


class Count(NamedTuple):
    """What is known of one arm in one phase."""

    planned: int
    running: int
    finished: int
    failed: int
    share: float
    """Of the steps planned, how many were made."""
    score: float | None
    """Mean of the final scores of trials that finished; while tuning, the best of them."""
    left: float
    """Share of the steps planned that may still come: a trial that was pruned makes no more."""
    stopped: int = 0
    """By their alarm."""


class Look(NamedTuple):
    """A study at one moment."""

    counts: dict[tuple[str, str], Count]
    steps_per_s: float
    left_s: float | None
    saving: float
    """Share of the trials' time that went into checkpoints."""
    behind: int | None
    """Reports that MLflow does not show yet."""
    alarms: Sequence[Raised] = ()

    def __str__(self) -> str:
        lag = f"; MLflow {self.behind:,} reports behind" if self.behind else ""
        return (
            f"{self.steps_per_s:,.0f} steps/s; {_span(self.left_s)} left; "
            f"checkpoints take {self.saving:.1%}{lag}"
        )


class Progress:
    """Follows a study. Use as a context around its run."""

    def __init__(self, spec: Experiment, journal: SqlJournal, lines: Lines | None = None) -> None:
        self.spec, self.journal, self.lines = spec, journal, lines
        self.console = Console(stderr=True)
        self.rates: deque[tuple[float, int]] = deque()
        self.alarms = Alarms(spec, journal)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="progress", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(EVERY_LINE)  # a journal that is away is not waited for

    def _follow(self) -> None:
        if not self.console.is_terminal:
            with suppress(JournalError):  # the driver says it
                self._look()  # a rate needs two
            wait = FIRST_LINE
            while not self._stop.wait(wait):
                wait = EVERY_LINE
                with suppress(JournalError):
                    self._tell(self._line())
            return
        with Live(console=self.console, auto_refresh=False, transient=True) as live:
            while not self._stop.wait(EVERY_TABLE):
                with suppress(JournalError):
                    live.update(self._table(), refresh=True)

    def _tell(self, line: str) -> None:
        self.console.print(line, highlight=False, soft_wrap=True)
        if self.lines is not None:
            self.lines.add(line)

    def _look(self) -> Look:
        states = self.journal.states(self.spec.name)
        found = counts(self.spec, states)
        made = sum(steps_made(state) for state in states)
        now = time.monotonic()
        self.rates.append((now, made))
        while now - self.rates[0][0] > MEMORY:
            self.rates.popleft()
        then, before = self.rates[0]
        span = now - then
        rate = (made - before) / span if span > 1 else 0.0
        steps = self.spec.budget.steps
        left = sum(
            count.left * count.planned * steps * self._stages(phase)
            for (_, phase), count in found.items()
        )
        behind = self.journal.behind(self.spec.name)
        left_s = left / rate if rate > 0 else None
        raised = alarms(self.spec, states, self.alarms)
        return Look(found, rate, left_s, _saving(states), behind, raised)

    def _stages(self, phase: str) -> int:
        return 1 if phase == "scale" else len(self.spec.tasks)

    def _line(self) -> str:
        look = self._look()
        parts = [
            f"{arm} {phase} {count.finished}/{count.planned}"
            + (f" ({count.failed} failed)" if count.failed else "")
            + (f" best {count.score:.4g}" if count.score is not None else "")
            for (arm, phase), count in look.counts.items()
        ]
        if look.alarms:
            parts.append(f"alarms {len(look.alarms)}, the last: {words(look.alarms[-1])}")
        return f"{'; '.join(parts)}; {look}"

    def _table(self) -> Group:
        look = self._look()
        title = f"{self.spec.name}: {look}"
        table = Table("arm", "phase", "done", "running", "failed", "steps", "score", title=title)
        if self.spec.alarm:
            table.add_column("alarms")
            table.add_column("stopped")
        for (arm, phase), count in look.counts.items():
            raised = sum((one.arm, one.phase) == (arm, phase) for one in look.alarms)
            marks = [str(raised), str(count.stopped)] if self.spec.alarm else []
            table.add_row(
                arm,
                phase,
                f"{count.finished}/{count.planned}",
                str(count.running),
                str(count.failed),
                f"{count.share:.0%}",
                "" if count.score is None else f"{count.score:.4g}",
                *marks,
            )
        return Group(table, *map(words, look.alarms[-LATEST:]))


def counts(spec: Experiment, states: Sequence[State]) -> dict[tuple[str, str], Count]:
    """Return what is known of each arm in each phase, what is not begun included."""
    found: dict[tuple[str, str], Count] = {}
    for (arm, phase), planned in plan.counts(spec).items():
        ours = [
            s for s in states if (s.trial.arm, s.trial.phase) == (arm, phase) and is_of(spec, s)
        ]
        made = sum(steps_made(state) for state in ours)
        ended = sum(not state.finished and not is_running(state) for state in ours)
        stages = 1 if phase == "scale" else len(spec.tasks)
        scores = [s.value for s in ours if s.finished and s.value is not None]
        mean = max if phase == "tune" else lambda x: sum(x) / len(x)
        found[arm, phase] = Count(
            planned=planned,
            running=sum(is_running(state) for state in ours),
            finished=sum(state.finished for state in ours),
            failed=sum(s.failure is not None and not s.failure.alarm for s in ours),
            stopped=sum(s.failure is not None and s.failure.alarm for s in ours),
            share=made / (planned * stages * spec.budget.steps),
            left=max(0.0, 1 - ended / planned - _share(ours, planned, stages, spec)),
            score=mean(scores) if scores else None,
        )
    return found


def alarms(spec: Experiment, states: Sequence[State], found: Alarms) -> list[Raised]:
    """Return the alarms of *spec* so far, in the order in which its trials began."""
    return found.look(state.trial for state in states if is_of(spec, state))


def is_of(spec: Experiment, state: State) -> bool:
    """A study keeps the trials of earlier versions of its spec; they do not count."""
    trial = state.trial
    seeds = spec.seeds.tune if trial.phase == "tune" else spec.seeds.test
    known = all(task in spec.tasks for task in trial.tasks)
    return known and trial.budget == spec.budget and trial.seed in seeds


def is_running(state: State) -> bool:
    fresh = time.time() * 1000 - state.at < FRESH * 1000
    return fresh and not state.finished and state.failure is None


def _share(states: Sequence[State], planned: int, stages: int, spec: Experiment) -> float:
    """Return the share of the steps planned that those made who finished or still run."""
    made = sum(steps_made(state) for state in states if state.finished or is_running(state))
    return made / (planned * stages * spec.budget.steps)


def steps_made(state: State) -> int:
    """Return the steps that a trial made; a member of a population, since it is what it is."""
    trial = state.trial
    like = trial.before_last_change if trial.phase == "tune" else None
    stages = len(trial.tasks) if state.finished else state.stage
    step = 0 if state.finished else state.step
    return max(0, stages * trial.budget.steps + step - (like[1] if like else 0))


def _saving(states: Sequence[State]) -> float:
    spent = sum(sum(state.seconds.values()) for state in states)
    saving = sum(state.seconds.get("checkpoint", 0.0) for state in states)
    return saving / spent if spent else 0.0


def _span(seconds: float | None) -> str:
    if seconds is None:
        return "an unknown time"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{seconds:02d}s"
