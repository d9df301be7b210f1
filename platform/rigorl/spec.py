"""What an experiment is.

Every key one may write in experiments/*.yaml is a field here, and no other key is
accepted. Laws within a field are checked when a file is read, laws between fields whenever
a spec is made. `docs/yaml.md` shows each key in use.
"""

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from rigorl.alarms import AlarmSpec
from rigorl.ports import PortSpec
from rigorl.resources import ExamSpec, Needs, PlacementSpec, needs
from rigorl.schedules import SCHEDULE, Change, check
from rigorl.searches import Search
from rigorl.seeds import SeedPlan
from rigorl.space import merged

Count = Annotated[int, Meta(gt=0)]
Share = Annotated[float, Meta(gt=0, lt=1)]
WINDOWS = (10, 100)
"""Windows of which nobody said anything: those that are too long hold all exams there are."""
Name = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_-]*$")]


class Spec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value that a person writes: frozen, and without a key that we do not know."""


class AgentSpec(Spec, frozen=True):
    """Which algorithm, with which settings. `name` is a file in rigorl/agents or a module."""

    name: str
    config: dict[str, Any] = {}
    schedule: tuple[Change, ...] = ()
    """What is set anew while it learns; steps count from the beginning of the trial."""

    def __post_init__(self) -> None:
        check(self.schedule)


Physics = dict[str, float | tuple[float, ...] | dict[str, float]]
Range = tuple[float, float]
Vary = dict[str, Range | dict[str, Range]]


class TaskSpec(Spec, frozen=True):
    """An environment with its arguments and changes to its physics.

    `engine` says whose it is: Gymnasium's, EnvPool's, or whichever is best: "auto".
    `random` and `reference` are the returns that count as 0 and 1 when tasks are compared:
    a number, or measured: `random: measured` plays the uniform agent, `reference: ppo`
    trains the arm `ppo` on this task alone.

    `vary` is physics drawn anew for each episode, evenly between two ends. `diverged` is the
    share of episodes in which the simulation may come apart before the trial fails.
    """

    name: Name
    env: str
    engine: Literal["auto", "gymnasium", "envpool"] = "auto"
    robot: str | None = None
    """The text of a model for it; in a file, the name of one that holds it."""
    kwargs: dict[str, Any] = {}
    physics: Physics = {}
    vary: Vary = {}
    port: PortSpec | None = None
    """Where it may be disturbed from outside, and how hard."""
    diverged: Annotated[float, Meta(ge=0, le=1)] = 0.01
    dataset: str | None = None
    random: float | Literal["measured"] | None = None
    reference: float | str | None = None

    def __post_init__(self) -> None:
        self._check_vary()
        if (self.random is None) != (self.reference is None):
            raise ValueError(
                "random and reference must be given together, but task "
                f"{self.name!r} has only one; add the other, or drop both to keep raw returns"
            )
        ends = [end for end in (self.random, self.reference) if isinstance(end, float)]
        if not all(map(math.isfinite, ends)):
            raise ValueError(
                f"random and reference must be finite, but are {self.random} and "
                f"{self.reference} for task {self.name!r}; correct them"
            )
        if isinstance(self.random, float) and self.random == self.reference:
            raise ValueError(
                f"reference must differ from random, but both are {self.random} for task "
                f"{self.name!r}; a score is (return - random) / (reference - random)"
            )

    def _check_vary(self) -> None:
        for key, value in self.vary.items():
            if key in self.physics:
                raise ValueError(
                    f"physics and vary must not share a key, but both have {key} for task "
                    f"{self.name!r}; drop one of them"
                )
            named = value if isinstance(value, dict) else {key: value}
            if not named:
                raise ValueError(
                    f"vary must say what varies, but {key} names nothing for task {self.name!r}; "
                    "name a part, or drop it"
                )
            for name, (low, high) in named.items():
                if not (math.isfinite(low) and math.isfinite(high) and low <= high):
                    raise ValueError(
                        f"vary must give finite ends, the lower one first, but {name} is "
                        f"[{low}, {high}] for task {self.name!r}; correct them"
                    )


class Budget(Spec, frozen=True):
    """What one trial may spend, counted in environment steps per task.

    Exams come every `exam_every` steps, at the end of each task, and, after a switch to
    another task, at the first moment when so many updates as in `dense` were made on it.
    """

    steps: Count
    exam_every: Count
    exam_episodes: Count = 10
    exam_horizon: Count | None = None
    dense: tuple[Count, ...] = ()
    num_envs: Count = 1
    checkpoint_every: Count = 50_000
    cpus: Annotated[float, Meta(gt=0)] = 1.0
    gpus: Annotated[float, Meta(ge=0)] = 0.0

    @property
    def threads(self) -> int:
        """Threads that step a trial's simulations."""
        return max(1, int(self.cpus))

    def __post_init__(self) -> None:
        if not (math.isfinite(self.cpus) and math.isfinite(self.gpus)):
            raise ValueError(
                f"cpus and gpus must be finite, but are {self.cpus} and {self.gpus}; correct them"
            )
        if self.exam_every > self.steps:
            raise ValueError(
                f"exam_every must be at most steps, but is {self.exam_every} > {self.steps}; "
                "lower exam_every"
            )
        if self.steps % self.num_envs:
            low = self.steps - self.steps % self.num_envs
            raise ValueError(
                f"steps must be a multiple of num_envs, but is {self.steps} for "
                f"{self.num_envs}; {low or self.num_envs} would do"
            )
        if any(a >= b for a, b in pairwise(self.dense)):
            raise ValueError(
                f"dense must rise, but is {list(self.dense)}; write it as [1, 2, 4, 8]"
            )


class Arm(Spec, frozen=True):
    """One side of the comparison. With `after`, its trials get another arm's final policies."""

    agent: AgentSpec
    search: Search | None = None
    after: Name | None = None

    def chosen(self, config: Mapping[str, Any]) -> AgentSpec:
        """Return the agent with the settings that were chosen, and what becomes of them."""
        settings, schedule = dict(config), self.agent.schedule
        if self.search and self.search.is_population:
            changes = settings.pop(SCHEDULE, ())
            schedule = tuple((step, dict(change)) for step, change in changes)
        settings = merged(self.agent.config, settings)
        return AgentSpec(name=self.agent.name, config=settings, schedule=schedule)


class Experiment(Spec, frozen=True):
    """A question, the arms that answer it, and the terms on which they compete."""

    name: Name
    question: Annotated[str, Meta(min_length=10)]
    arms: Annotated[dict[Name, Arm], Meta(min_length=1)]
    tasks: Annotated[tuple[TaskSpec, ...], Meta(min_length=1)]
    budget: Budget
    seeds: SeedPlan
    windows: tuple[Annotated[int, Meta(ge=2)], ...] = WINDOWS
    """Lengths, in evaluations, of the windows of windowed forgetting and plasticity."""
    transfer: bool = False
    """Whether arms also learn each task alone, on the test seeds, to tell what transfers."""
    alarm: AlarmSpec | None = None
    """What is said, or done, when the score on an earlier task falls."""
    exam: ExamSpec = ExamSpec()
    placement: PlacementSpec = PlacementSpec()

    @property
    def needs(self) -> tuple[Needs, ...]:
        """What the processes of one trial need: its learner first, then its crew."""
        return needs(self.budget.cpus, self.budget.gpus, self.placement, self.exam)

    def __post_init__(self) -> None:
        names = [task.name for task in self.tasks]
        if len(set(names)) != len(names):
            raise ValueError(f"task names must differ, but are {names}; rename one")
        if self.transfer and len(self.tasks) == 1:
            raise ValueError(
                "transfer must be between tasks, but there is one, "
                f"{self.tasks[0].name!r}; add a task, or drop transfer"
            )
        searching = [name for name, arm in self.arms.items() if arm.search]
        if searching and not self.seeds.tune:
            raise ValueError(
                f"seeds.tune must not be empty while arms search, but {searching} do; "
                "add seeds to choose by, other than those of seeds.test"
            )
        for name in searching:
            self._check_prune(name)
        for arm in self.arms.values():
            if arm.search:
                arm.search.check_for(len(self.tasks), len(self.seeds.tune))
        self._check_after()
        self._check_populations()
        self._check_alarm()
        for task in self.tasks:
            if isinstance(task.reference, str) and task.reference not in self.arms:
                raise ValueError(
                    f"reference must be a number or an arm, but is {task.reference!r} for task "
                    f"{task.name!r}; the arms are {', '.join(self.arms)}"
                )
            if isinstance(task.reference, str) and self.arms[task.reference].after:
                raise ValueError(
                    "reference must be an arm that stands alone, but "
                    f"{task.reference!r} comes after {self.arms[task.reference].after!r}; "
                    "choose another arm, or give a number"
                )

    def _check_prune(self, name: str) -> None:
        search = self.arms[name].search
        rungs = len(self.tasks) * math.ceil(self.budget.steps / self.budget.exam_every)
        if search and search.prune:
            search.prune.check_for(f"arm {name!r}", rungs, len(self.seeds.tune))

    def _check_populations(self) -> None:
        rungs = len(self.tasks) * math.ceil(self.budget.steps / self.budget.exam_every)
        for name, arm in self.arms.items():
            how = arm.search
            if how is None or not how.is_population:
                continue
            if (how.every or 1) >= rungs:
                raise ValueError(
                    f"every must leave exams after the first change, but is {how.every or 1} of "
                    f"{rungs} for arm {name!r}; lower it, or budget.exam_every"
                )
            if arm.agent.schedule:
                raise ValueError(
                    f"a schedule must come of one hand, but arm {name!r} has one and searches by "
                    f"{how.sampler}; drop its `schedule`, or take another sampler"
                )

    def _check_alarm(self) -> None:
        if self.alarm is None:
            return
        if len(self.tasks) == 1:
            raise ValueError(
                "an alarm must have an earlier task to watch, but there is one task only; add "
                "another one to `tasks`, or drop `alarm`"
            )
        for task in self.tasks[:-1]:
            if isinstance(task.random, str | None) or isinstance(task.reference, str | None):
                raise ValueError(  # noqa: TRY004  what is wrong is the spec
                    "an alarm must know how much a fall is, but task "
                    f"{task.name!r} does not say in numbers what counts as 0 and 1; give it "
                    "`random` and `reference` (what is measured is known at the end only: an "
                    "earlier report has it), or drop `alarm`"
                )
        exams = math.ceil(self.budget.steps / self.budget.exam_every) + len(self.budget.dense)
        if self.alarm.within > exams:
            raise ValueError(
                f"an alarm's window must hold exams of one task, but within is "
                f"{self.alarm.within} and after a switch there are {exams} exams; lower within "
                "or budget.exam_every, or add to budget.dense"
            )

    def _check_after(self) -> None:
        for name in self.arms:
            line, at = [name], self.arms[name].after
            while at is not None:
                if at not in self.arms:
                    raise ValueError(
                        f"after must name an arm, but is {at!r} for arm {line[-1]!r}; "
                        f"the arms are {', '.join(self.arms)}"
                    )
                if at in line:
                    raise ValueError(
                        "after must not lead back, but does: "
                        f"{' after '.join([*line, at])}; cut it somewhere"
                    )
                line.append(at)
                at = self.arms[at].after
