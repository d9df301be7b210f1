"""One trial, played on one machine. Knows no Ray and no MLflow."""

import time
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from rigorl import alarming, checkpoint, contract, crash, objectives, search, switching
from rigorl.checkpoint import POLICIES, Store
from rigorl.contract import Crew, Progress, Span
from rigorl.errors import TrialFailed
from rigorl.examining import Examining, Exams
from rigorl.searches import BY_SCORE, Measure
from rigorl.seeds import integer
from rigorl.tasks.envs import open_world
from rigorl.tasks.examples import drawn
from rigorl.trial import Beat, Report, Trial


class Run:
    """A trial in flight: an iterator of reports and beats that can be taken up again.

    Checkpoints fall at the first safe yield after each `checkpoint_every` steps, and at the end
    of each stage. There the learner is closed and called again in a fresh world, saved or not:
    so a run that was interrupted is, to the bit, the run that was not.
    """

    def __init__(
        self,
        trial: Trial,
        crew: Crew,
        storage: Path | Store | None = None,
        exams: Exams | None = None,
        measure: Measure = BY_SCORE,
    ) -> None:
        self.trial, self.crew, self._closing = trial, crew, False
        self.measure = measure
        whole = checkpoint.as_store(storage)
        store = whole.below(trial.id) if whole else None
        self.store = alarming.room(trial, store)
        self.seconds = {"learn": 0.0, "exam": 0.0, "checkpoint": 0.0}
        self.exact = not getattr(contract.find(trial.agent.name), "inexact", False)
        self.given = switching.given(trial, whole)
        with switching.found(trial, whole) as found:
            self.last, self.place = found.name, found.place
            self.settings = switching.settings(trial, self.place)
            self.agent = switching.born(trial, self.settings)
            self.exams = Examining(trial, exams or Exams(crew), self.place)
            if found.folder and not self.finished:
                self.agent.load(found.folder)
                self.exams.load(found.folder)
        self.start = switching.start(trial, found)
        self.recovered = tuple(self.place.unsaved)
        """Reports that came with the checkpoint; hand them on before going on."""
        self.must_save = False
        """Whether a checkpoint is to be made where it stands, before it goes on."""
        self._back: str | None = None
        """The checkpoint to go back to then, for its alarm."""
        self._events = self._play()

    def __iter__(self) -> Iterator[Report | Beat]:
        return self

    def __next__(self) -> Report | Beat:
        return next(self._events)

    @property
    def finished(self) -> bool:
        return self.place.stage == len(self.trial.tasks)

    @property
    def rung(self) -> int:
        """The last rung whose exam was taken, whether its score is known or not."""
        return max(self.exams.taken, default=-1)

    def settle(self) -> Iterator[Report]:
        """Wait for all exams that were taken."""
        return self._told(all_=True)

    def pause(self) -> Iterator[Report | Beat]:
        """Make the checkpoint that is due here, if one is: whoever goes on will go on from here."""
        while self.must_save:
            yield next(self._events)

    def close(self) -> None:
        """Stop learning. Not at once where that is unsafe: at the next safe yield."""
        self._closing = True  # and not merely forgotten
        self._events.close()

    def _play(self) -> Generator[Report | Beat]:
        try:
            while not self.finished:
                alarming.heed(self.trial, self.place)  # a stage that ends so takes nothing back
                self._switch()
                yield from self._learn()
        except TrialFailed:
            yield from self.settle()  # one of the exams may have failed before that
            raise

    def _switch(self) -> None:
        """Give the agent the settings that hold from here on, if they are others."""
        settings = switching.settings(self.trial, self.place)
        if settings != self.settings:
            self.agent = switching.switched(self.agent, self.trial, settings)
            self.settings = settings

    def _learn(self) -> Iterator[Report | Beat]:
        """Learn up to the next checkpoint, with an exam whenever one is due."""
        place, budget = self.place, self.trial.budget
        start, seed = place.step, self.trial.seed
        task = drawn(self.trial.tasks[place.stage], seed)
        luck = integer(seed, "learn", place.stage, start)
        tally, threads = place.tally(task.name), budget.threads
        world = open_world(task, budget.num_envs, luck, self.given, threads=threads, tally=tally)
        learner = self.agent.learn(world, self.crew, Span(place.stage, start, budget.steps))
        with closing(world), closing(self._watch(learner)) as watched:
            for progress in watched:
                rung, dense = self.exams.due(progress)
                place.step, place.update = progress.step, progress.update
                if progress.safe and place.step == budget.steps:
                    continue  # what is left of `learn` ends the task; the exam comes after it
                long = place.step - start >= budget.checkpoint_every
                self.must_save = progress.safe and (long or switching.is_due(self.trial, place))
                if rung is not None or dense:
                    self._examine(progress, rung)
                here, waits = False, progress.safe and alarming.is_armed(self.trial, place)
                for report in self._told(all_=waits):
                    here = report.update == place.update
                    yield report
                if not here:
                    yield self._beat()
                self._heed(progress)
                if self.must_save:
                    break
        if self.must_save:
            self._save()
            yield self._beat(saved=True)
            return
        if place.step != budget.steps:
            raise RuntimeError(f"learn must end at {budget.steps}, but ended at {place.step}")
        yield from self._end_stage(progress)
        yield self._beat(saved=True)

    def _watch(self, learner: Iterator[Progress]) -> Generator[Progress]:
        """Pass *learner* on, timed and checked. Closed where unsafe, go on to a safe yield."""
        progress = None
        while True:
            try:
                with self._spending("learn"):
                    progress = next(learner, None)
            except TrialFailed as error:
                raise TrialFailed(f"{error} ({self._where()})") from error
            if progress is None:
                return
            progress = progress._replace(update=progress.update + self.place.ahead)
            crash.point("learn")
            contract.check_metrics(progress, self.trial.tasks[self.place.stage].name)
            try:
                yield progress
            except GeneratorExit:
                while self._closing and not progress.safe:
                    progress = next(learner)
                learner.close()  # type: ignore[attr-defined]
                raise

    def _heed(self, progress: Progress) -> None:
        """Stop, or say that the next checkpoint is to be of an earlier agent, if one fell."""
        if progress.safe:
            self._back = alarming.heed(self.trial, self.place)
            self.must_save = self.must_save or self._back is not None

    def _go_back(self, name: str) -> None:
        """Make the agent that of the checkpoint *name*. What is spent stays spent."""
        assert self.store is not None  # noqa: S101
        crash.point("roll_back.before")
        self.settings = switching.settings(self.trial, self.place)
        self.agent = alarming.gone_back(self.trial, self.place, self.store, name, self.settings)
        self.last = name

    def _where(self) -> str:
        place = self.place
        return f"after step {place.step} of task {self.trial.tasks[place.stage].name!r}"

    def _end_stage(self, progress: Progress) -> Iterator[Report]:
        """Examine, then go on to the next stage; keep the final policies at the last one.

        That the stage has ended is saved first and told then.
        """
        place, stages = self.place, len(self.trial.tasks)
        rung = (place.stage + 1) * search.rungs(self.trial.budget, 1) - 1
        finished = place.stage == stages - 1
        self._examine(progress, rung, stage_ended=True, finished=finished)
        ended, last = place.stage, []
        place.stage, place.step, place.switched_at = place.stage + 1, 0, place.update
        for report in self._told(all_=finished or self.trial.alarm is not None):
            if report.stage_ended and report.stage == ended:
                last.append(report)
            else:
                yield report
        self._save()
        yield from last

    def _beat(self, *, saved: bool = False) -> Beat:
        place = self.place
        return Beat(
            trial=self.trial.id,
            stage=place.stage,
            step=place.step,
            update=place.update,
            seconds=dict(self.seconds),
            saved=saved,
        )

    def _examine(
        self,
        progress: Progress,
        rung: int | None,
        *,
        stage_ended: bool = False,
        finished: bool = False,
    ) -> None:
        """Take an exam of every policy on every task. The seeds do not depend on the arm."""
        place = self.place
        metrics = {**progress.metrics, **alarming.metrics(self.trial, place)}
        metrics["diverged"] = sum(tally.diverged for tally in place.tallies.values())
        report = Report(
            trial=self.trial.id,
            stage=place.stage,
            step=place.step,
            update=place.update,
            rung=rung,
            stage_ended=stage_ended,
            finished=finished,
            exact=self.exact,
            metrics={name: float(value) for name, value in metrics.items()},
            scores=(),
        )
        place.exams += 1
        with self._spending("exam"):
            self.exams.begin(report, self.agent.policies())

    def _told(self, *, all_: bool = False) -> Iterator[Report]:
        """Yield what has come of the exams so far, and take note of it."""
        told = self.exams.told(all_=all_)
        while True:
            with self._spending("exam"):
                report = next(told, None)
            if report is None:
                return
            if report.rung is not None:
                self.place.values[report.rung] = objectives.at(self.trial, report, self.measure)
            alarming.note(self.trial, self.place, report)
            self.place.unsaved.append(report)
            yield report

    def _save(self) -> None:
        """Write a checkpoint; before the last one, the final policies."""
        place, back, self.must_save, self._back = self.place, self._back, False, None
        if back:
            self._go_back(back)
        place.before, place.made = place.made, switching.steps(self.trial, place)
        alarming.hold(self.trial, place)
        if self.store is not None:
            with self._spending("checkpoint"):
                if self.finished:
                    with self.store.appearing(POLICIES) as draft:
                        contract.save_policies(self.agent.policies(), draft)
                place.pending = self.exams.pending
                save = None if self.finished else self._write
                self.last = checkpoint.write(self.store, place, save, self.last)
        place.settle()
        if back:
            crash.point("roll_back.after")

    def _write(self, folder: Path) -> None:
        self.agent.save(folder)
        self.exams.save(folder)

    @contextmanager
    def _spending(self, on: str) -> Iterator[None]:
        clock = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[on] += time.perf_counter() - clock
