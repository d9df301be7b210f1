"""Spec -> trials, and the order in which they may be played. Pure."""

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from rigorl.schedules import SCHEDULE
from rigorl.space import Space, setting
from rigorl.spec import AgentSpec, Experiment, TaskSpec
from rigorl.trial import Bundle, Phase, Trial, fingerprint

Config = Mapping[str, Any]
UNIFORM = "uniform"
"""The agent, and the name of its trials, that measures what `random` is worth."""


def trials(
    spec: Experiment,
    arm: str,
    phase: Phase,
    chosen: Mapping[str, Config],
    seeds: Sequence[int],
) -> list[Trial]:
    """Return the trials of *arm* in the configuration *chosen* for it, one per seed.

    An arm that comes `after` another is given the policies of that arm's trial in the same
    phase, on the same seed.
    """
    after = spec.arms[arm].after
    agent = spec.arms[arm].chosen(chosen.get(arm, {}))
    before = [t.id for t in trials(spec, after, phase, chosen, seeds)] if after else []
    return [
        Trial(
            experiment=spec.name,
            arm=arm,
            phase=phase,
            agent=agent,
            tasks=spec.tasks,
            budget=spec.budget,
            seed=seed,
            after=before[i] if before else None,
            alarm=spec.alarm if spec.alarm and spec.alarm.acts else None,
        )
        for i, seed in enumerate(seeds)
    ]


def random_trials(spec: Experiment) -> list[Trial]:
    """Return the trials that measure what acting at random earns, where tasks ask for it."""
    return [
        _alone(spec, UNIFORM, AgentSpec(name=UNIFORM), task, seed)
        for task in spec.tasks
        if task.random == "measured"
        for seed in spec.seeds.test
    ]


def reference_trials(spec: Experiment, arm: str, config: Config) -> list[Trial]:
    """Return the trials of *arm* on single tasks, where tasks are measured by it, or all of them
    where the spec asks what transfers. They are the same trials. One that comes after another
    learns no task alone.
    """
    agent = spec.arms[arm].chosen(config)
    every = spec.transfer and spec.arms[arm].after is None
    return [
        _alone(spec, arm, agent, task, seed)
        for task in spec.tasks
        if every or task.reference == arm
        for seed in spec.seeds.test
    ]


def _alone(spec: Experiment, arm: str, agent: AgentSpec, task: TaskSpec, seed: int) -> Trial:
    return Trial(
        experiment=spec.name,
        arm=arm,
        phase="scale",
        agent=agent,
        tasks=(task,),
        budget=spec.budget,
        seed=seed,
    )


def counts(spec: Experiment) -> dict[tuple[str, str], int]:
    """Return the number of trials of each arm in each phase, pruned ones included."""
    planned: dict[tuple[str, str], int] = {}
    for name, arm in spec.arms.items():
        if arm.search:
            each = arm.search.candidates * len(spec.seeds.tune)
            planned[name, "tune"] = each * arm.search.repeats
        repeats = arm.search.repeats if arm.search else 1
        planned[name, "test"] = len(spec.seeds.test) * repeats
        references = reference_trials(spec, name, {})
        if references:
            planned[name, "scale"] = len(references)
    at_random = random_trials(spec)
    if at_random:
        planned[UNIFORM, "scale"] = planned.get((UNIFORM, "scale"), 0) + len(at_random)
    return planned


def search_id(spec: Experiment, arm: str, chosen: Mapping[str, Config], repeat: int = 0) -> str:
    """Return what tells one search from another. More candidates are the same search, and so is
    one that chooses its winner otherwise: it tries the same.

    But those of a population: who goes on as whom rests on all of them.

    *chosen* holds the configurations of the arms that *arm* builds on.
    """
    search = spec.arms[arm].search
    assert search is not None  # noqa: S101
    how = [search.space, search.generation, search.seed + repeat, search.prune]
    later = {"sampler": "tpe", "enqueue": (), "constraints": ()}
    later |= {"maximise": ("score",), "reference_point": (), "ideal_point": ()}
    how += [
        [key, said] for key, default in later.items() if (said := getattr(search, key)) != default
    ]
    if search.is_population:
        how.append(["population", search.candidates, search.every or 1])
    before = {name: config for name, config in chosen.items() if name != arm}
    return fingerprint([spec.name, arm, how, trials(spec, arm, "tune", before, spec.seeds.tune)])


def group(trial: Trial, known: Mapping[str, Trial]) -> str:
    """Return what *trial* shares with those that differ from it in nothing but the seed.

    What it comes after is looked up in *known*. Trials that measure scales stand together,
    whatever their task.
    """
    before = known.get(trial.after) if trial.after else None
    return msgspec.structs.replace(
        trial,
        seed=0,
        tasks=() if trial.phase == "scale" else trial.tasks,
        after=group(before, known) if before else trial.after,
    ).id


def built_on(spec: Experiment, trial: Trial, known: Mapping[str, Trial]) -> dict[str, Config]:
    """Return what searches chose for the arms whose trials *trial* builds on."""
    chosen: dict[str, Config] = {}
    while trial.after and trial.after in known:
        trial = known[trial.after]
        arm = spec.arms.get(trial.arm)
        if arm and arm.search:
            found = _found(arm.search.space, trial.agent.config)
            if arm.search.is_population:
                found[SCHEDULE] = [[*change] for change in trial.agent.schedule]
            chosen[trial.arm] = found
    return chosen


def _found(dimensions: Space, settings: Config) -> dict[str, Any]:
    """Return what *settings* say of *dimensions*, of those that count."""
    found: dict[str, Any] = {}
    for name in dimensions:
        with suppress(KeyError):
            found[name] = setting(settings, name)
    return found


def number(
    spec: Experiment, trial: Trial, chosen: Mapping[str, Config], proposed: Mapping[int, Config]
) -> int | None:
    """Return which of the candidates *proposed* is played in *trial*; None if none of them."""
    arm = spec.arms[trial.arm]
    for candidate, config in proposed.items():
        if trial.agent == arm.chosen(config):
            configs = {**chosen, trial.arm: config}
            (same,) = trials(spec, trial.arm, trial.phase, configs, [trial.seed])
            return candidate if same == trial else None
    return None


class Story(NamedTuple):
    """Waves of bundles: a wave may be played side by side, once the last one is settled."""

    name: str
    after: frozenset[str]
    waves: Iterator[Sequence[Bundle]]


class Agenda:
    """What may be played now. Stories go on side by side, each at its own pace."""

    def __init__(self, stories: Sequence[Story]) -> None:
        self._open = {story.name: story for story in stories}
        self._queues: dict[str, deque[Bundle]] = {name: deque() for name in self._open}
        self._playing: dict[str, str] = {}

    def take(self) -> Bundle | None:
        """Return a bundle to be played; None if there is none until another is settled.

        Two stories may want the same one: it is not handed out twice at a time.
        """
        self._fill()
        for name, queue in self._queues.items():
            bundle = next((one for one in queue if one.id not in self._playing), None)
            if bundle is not None:
                queue.remove(bundle)
                self._playing[bundle.id] = name
                return bundle
        return None

    def settle(self, bundle: Bundle) -> None:
        """Say that nothing more will come of *bundle*."""
        del self._playing[bundle.id]

    @property
    def over(self) -> bool:
        """All stories are told: nothing is being played, and nothing is left to play."""
        self._fill()
        return not self._playing and not any(self._queues.values())

    def _fill(self) -> None:
        """Tell each story on to its next wave, where its last one is settled."""
        told = True
        while told:  # a story that ends may let others begin
            told = False
            for name, story in list(self._open.items()):
                busy = self._queues[name] or name in self._playing.values()
                if busy or story.after & self._open.keys():
                    continue
                told = True
                wave = next(story.waves, None)
                if wave is None:
                    del self._open[name]
                else:
                    self._queues[name].extend(wave)
