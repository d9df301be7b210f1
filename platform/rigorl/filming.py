"""What the front door does with films: each shows an exam episode of a final policy, as scored."""

import argparse
import logging
import re
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import NamedTuple

from rigorl import opening, plan, report, switching
from rigorl.analysis.borne import borne
from rigorl.analysis.curves import last
from rigorl.checkpoint import Store
from rigorl.errors import IncompleteResults, SpecError, nearest
from rigorl.outside import film, yaml_file
from rigorl.outside.journal import SqlJournal
from rigorl.spec import Experiment, TaskSpec
from rigorl.stories import told
from rigorl.tasks import pushes
from rigorl.tasks.exam import order
from rigorl.tasks.seen import look_on
from rigorl.tasks.world import Policy
from rigorl.trial import Trial

DONE = 0
log = logging.getLogger("rigorl")


class Scene(NamedTuple):
    """What is filmed."""

    trial: Trial
    name: str
    policy: Policy
    task: TaskSpec
    episode: int

    @property
    def title(self) -> str:
        return f"{self.trial.arm}, seed {self.trial.seed}, {self.name} on {self.task.name}"

    @property
    def file(self) -> str:
        trial, name = self.trial, re.sub(r"[^\w@.-]", "_", self.name)
        return f"{trial.arm}-seed{trial.seed}-{name}-{self.task.name}-{self.episode}.gif"


class Film(NamedTuple):
    """A film that was made, and what became of its episode. `force` is the mean, in newtons.

    `reported` is what the journal says that the episode earned, if it knows.
    """

    file: str
    arm: str
    seed: int
    policy: str
    task: str
    episode: int
    steps: int
    earned: float
    reported: float | None
    force: float
    seconds: float


def make(args: argparse.Namespace) -> Generator[str, None, int]:
    """Make the films that are asked for, show them in MLflow, and say where they are."""
    spec, store = yaml_file.read(args.spec, args.set), opening.store(args)
    films: list[Film] = []
    trials: dict[str, list[Path]] = {}
    with closing(opening.known_journal(args)) as journal:
        for scene in _scenes(args, spec, journal, store):
            path = args.out or args.home / "films" / spec.name / scene.file
            made = _shoot(scene, path, args.seconds, _reported(scene, journal))
            trials.setdefault(scene.trial.id, []).append(path)
            films.append(made)
            if not args.json:
                yield _told(made)
        for remark in opening.shown_in_mlflow(args, journal, trials, "films"):
            log.warning("%s", remark)
    if args.json:
        yield report.as_json([made._asdict() for made in films])
    return DONE


def _scenes(
    args: argparse.Namespace, spec: Experiment, journal: SqlJournal, store: Store
) -> Iterator[Scene]:
    """Yield what *args* ask for; without an arm, what there is of each."""
    _check(args, spec)
    chosen, left = told(spec, journal).chosen, []
    for arm in [args.arm] if args.arm else spec.arms:
        try:
            trial = _trial(spec, arm, chosen, _seed(args, spec))
            policies = switching.final(trial.id, store, f"a film of arm {arm!r}")
        except IncompleteResults as error:
            if args.arm:
                raise
            left.append(str(error))
            continue
        task = next(task for task in trial.tasks if task.name == (args.task or spec.tasks[-1].name))
        name = _named(args.policy, policies, _costs(trial, task, journal))
        yield Scene(trial, name, policies[name], task, args.episode)
    if len(left) == len(spec.arms):
        raise IncompleteResults(left[0])
    for remark in left:
        log.warning("%s", remark)


def _trial(spec: Experiment, arm: str, chosen: Mapping[str, plan.Config], seed: int) -> Trial:
    if arm not in chosen:
        raise IncompleteResults(
            f"a film must be of an arm under test, but the search of {arm!r}, or of one that it "
            "comes after, has no winner yet; `rigorl run` goes on with it"
        )
    (trial,) = plan.trials(spec, arm, "test", chosen, [seed])
    return trial


def _check(args: argparse.Namespace, spec: Experiment) -> None:
    """Refuse what is not there, before anything is played."""
    if args.arm and args.arm not in spec.arms:
        raise SpecError(
            f"--arm must be one of the spec, but {args.arm!r} is not{nearest(args.arm, spec.arms)}"
        )
    names = [task.name for task in spec.tasks]
    if args.task and args.task not in names:
        raise SpecError(
            f"--task must be one of the spec, but {args.task!r} is not{nearest(args.task, names)}"
        )
    if not 0 <= args.episode < spec.budget.exam_episodes:
        raise SpecError(
            f"--episode must be one of the exam's, but is {args.episode}; they go from 0 to "
            f"{spec.budget.exam_episodes - 1}"
        )
    if not args.seconds > 0:
        raise SpecError(f"--seconds must be above 0, but is {args.seconds:g}; correct it")
    if args.out and not args.arm and len(spec.arms) > 1:
        raise SpecError(
            f"--out must be for one film, but there are {len(spec.arms)} arms; choose one with "
            "--arm, or drop --out"
        )
    if args.out and args.out.suffix != ".gif":
        raise SpecError(f"--out must be a GIF, but is {args.out}; let its name end in .gif")


def _seed(args: argparse.Namespace, spec: Experiment) -> int:
    seed: int = spec.seeds.test[0] if args.seed is None else args.seed
    if seed not in spec.seeds.test:
        known = ", ".join(map(str, spec.seeds.test))
        raise SpecError(f"--seed must be one of seeds.test, but is {seed}; choose one of {known}")
    return seed


def _costs(trial: Trial, task: TaskSpec, journal: SqlJournal) -> dict[str, float]:
    """Return what each attack cost in the last exam of *trial*, if the journal knows."""
    final = last(trial, journal.reports([trial.id]))
    seen = borne(final, task.name) if final else []
    return {pushes.name(one.what): one.cost for one in seen if one.what is not None}


def _named(asked: str | None, policies: Iterable[str], costs: Mapping[str, float]) -> str:
    """Return which of *policies* is filmed: of those that push as hard as any, who cost most."""
    if asked is None:
        return min(policies, key=lambda name: (-_strength(name), -costs.get(name, 0.0), name))
    if asked not in policies:
        raise SpecError(
            f"--policy must be one that was examined, but {asked!r} was not"
            + nearest(asked, policies)
        )
    return asked


def _strength(policy: str) -> float:
    disturbance = pushes.parse(policy)
    return disturbance.strength if disturbance else 0.0


def _reported(scene: Scene, journal: SqlJournal) -> float | None:
    """Return what the last exam of the trial says of the episode."""
    final = last(scene.trial, journal.reports([scene.trial.id]))
    for score in final.scores if final else ():
        if (score.task, score.policy) == (scene.task.name, scene.name):
            return score.returns[scene.episode][0]
    return None


def _shoot(scene: Scene, path: Path, seconds: float, reported: float | None) -> Film:
    """Play the episode, film its first *seconds*, and write that to *path*."""
    exam = order(scene.task, scene.policy, scene.trial.budget, scene.trial.seed)
    earned, force, steps, shown, pictures, between = 0.0, 0.0, 0, 0.0, [], 1
    with ExitStack() as stack:
        moments = stack.enter_context(closing(look_on(exam, scene.episode)))
        for moment in moments:
            if not steps:
                camera = stack.enter_context(film.opened(moment.model))
                dt = moment.data.time
                between = film.stride(dt)
            steps, earned, force = moment.step, earned + moment.reward, force + moment.force
            if (steps - 1) % between == 0 and steps * dt <= seconds:
                numbers = f"step {steps}   force {moment.force:.3g} N   reward {moment.reward:.2f}"
                pictures.append(camera.picture(moment, [scene.title, numbers]))
                shown = steps * dt
    film.write(path, pictures, between * dt)
    if reported is not None and reported != earned:
        log.warning(
            "%s: the episode earned %r here, and %r in its exam: that was taken by other code, or "
            "on a processor that rounds otherwise",
            *(path, earned, reported),
        )
    who = scene.trial.arm, scene.trial.seed, scene.name, scene.task.name, scene.episode
    return Film(str(path), *who, steps, earned, reported, force / max(steps, 1), shown)


def _told(made: Film) -> str:
    pushed = f", pushed with {made.force:.3g} N in the mean" if made.force else ""
    return (
        f"{made.file}: {made.arm}, seed {made.seed}, {made.policy} on {made.task}, episode "
        f"{made.episode}: {made.steps} steps, return {made.earned:.6g}{pushed}"
    )


VERBS = {"film": make}
