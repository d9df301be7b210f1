"""Exams that are taken while the learner goes on, and told in the order in which they were taken.

An exam needs frozen copies of the policies and not the learner. What comes of it is the same
whoever takes it and when, so a report does too: it is begun when its exam is taken, with all that
is known of the learner then, and finished when the last score is there.
"""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import NamedTuple

from msgspec.structs import replace

from rigorl import contract, crash, search
from rigorl.checkpoint import Place
from rigorl.contract import Crew, Progress
from rigorl.errors import TrialFailed
from rigorl.tasks import gauge
from rigorl.tasks.exam import Result, examine, order
from rigorl.tasks.world import Policy
from rigorl.trial import Report, Score, Trial


class Exams(NamedTuple):
    """Who takes exams, and how many of them may be under way while the learner goes on."""

    crew: Crew
    backlog: int = 0


class Paper(NamedTuple):
    """An exam under way: its report, with all but the returns, and the answers to come."""

    report: Report
    policies: Mapping[str, Policy]
    answers: Sequence["Future[Result]"]

    @property
    def done(self) -> bool:
        return all(answer.done() for answer in self.answers)


class Examining:
    """The exams of one trial that are under way."""

    def __init__(self, trial: Trial, exams: Exams, place: Place) -> None:
        self.trial, self.place = trial, place
        self.crew, self.backlog = exams
        self.papers: deque[Paper] = deque()

    @property
    def pending(self) -> list[Report]:
        """What is to be told of the exams under way, without the returns."""
        return [paper.report for paper in self.papers]

    @property
    def taken(self) -> list[int]:
        """The rungs whose exams were taken."""
        pending = [report.rung for report in self.pending if report.rung is not None]
        return [*self.place.values, *pending]

    def due(self, progress: Progress) -> tuple[int | None, bool]:
        """Return the rung of the regular exam that is due now, if any; and whether a dense one is.

        Regular exams wait for a safe yield, so that a search may end a candidate there.
        """
        place, budget = self.place, self.trial.budget
        rung, first = None, place.stage * search.rungs(budget, 1)
        passed = progress.step // budget.exam_every
        if progress.safe and passed > max([0, *(rung + 1 - first for rung in self.taken)]):
            rung = first + passed - 1
        before, now = place.update - place.switched_at, progress.update - place.switched_at
        dense = place.stage > 0 and any(before < d <= now for d in budget.dense)
        return rung, dense

    def begin(self, report: Report, policies: Mapping[str, Policy]) -> None:
        """Examine each of *policies* on each task; *report* says all but what comes of it."""
        scores = tuple(Score(task.name, name, ()) for task in self.trial.tasks for name in policies)
        self.take(replace(report, scores=scores), policies)

    def take(self, report: Report, policies: Mapping[str, Policy]) -> None:
        """Take the exams that the scores of *report* lack."""
        trial, tasks = self.trial, {task.name: task for task in self.trial.tasks}
        shared = {name: self.crew.share(policy) for name, policy in policies.items()}
        answers = [
            self.crew.submit(
                examine, order(tasks[score.task], shared[score.policy], trial.budget, trial.seed)
            )
            for score in report.scores
        ]
        self.papers.append(Paper(report, policies, answers))

    def told(self, *, all_: bool = False) -> Iterator[Report]:
        """Yield the reports that are finished; wait for those beyond the backlog, or for all."""
        while self.papers and (all_ or len(self.papers) > self.backlog or self.papers[0].done):
            report = self._finish(self.papers[0])
            self.papers.popleft()
            yield report

    def _finish(self, paper: Paper) -> Report:
        """Return the report of *paper* with its scores. What fails, fails where it was taken."""
        report, scores, told = paper.report, [], dict[str, float]()
        tasks = {task.name: task for task in self.trial.tasks}
        try:
            for score, answer in zip(report.scores, paper.answers, strict=True):
                returns_EO, diverged, strain = answer.result()
                if strain:
                    borne = gauge.summary(strain)
                    told |= {f"{n}/{score.task}/{score.policy}": x for n, x in borne.items()}
                scores.append(replace(score, returns=tuple(map(tuple, returns_EO.tolist()))))
                tally = self.place.exam_tally(score.task)
                tally.add(tasks[score.task], len(returns_EO), diverged)
                crash.point("exam")
        except TrialFailed as error:
            error.trial, error.place = report.trial, (report.stage, report.step)
            self.papers.clear()  # what came after it is not told
            raise
        lost = sum(tally.diverged for tally in self.place.exam_tallies.values())
        metrics = {**report.metrics, **told, "diverged": report.metrics["diverged"] + lost}
        return replace(report, metrics=metrics, scores=tuple(scores))

    def save(self, folder: Path) -> None:
        """Write the policies whose exams are under way, so that these can be taken again."""
        for i, paper in enumerate(self.papers):
            contract.save_policies(paper.policies, folder / "pending" / f"{i:04d}")

    def load(self, folder: Path) -> None:
        """Take again the exams that were under way when `save` wrote *folder*."""
        for i, report in enumerate(self.place.pending):
            self.take(report, contract.load_policies(folder / "pending" / f"{i:04d}"))
        self.place.pending = []
