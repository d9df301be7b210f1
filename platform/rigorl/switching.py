"""An agent as it is at some place of its trial: newborn, taken up, or with other settings.

Settings change at checkpoints only (`schedules.py`). There the agent is made with the new ones,
and loads what the old one saves: so it is the agent that another process would take up there,
and what was set wins over what was saved.
"""

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from socket import gethostname
from typing import Any

from msgspec.structs import replace as changed

from rigorl import checkpoint, contract
from rigorl.checkpoint import POLICIES, Place, Store
from rigorl.contract import Agent
from rigorl.errors import IncompleteResults, StorageError
from rigorl.schedules import at
from rigorl.seeds import integer
from rigorl.tasks.envs import world_spec
from rigorl.tasks.world import Policy
from rigorl.trial import Start, Trial


def steps(trial: Trial, place: Place) -> int:
    """Return the environment steps that *trial* has made at *place*, over all stages."""
    return place.stage * trial.budget.steps + place.step


def is_due(trial: Trial, place: Place) -> bool:
    """Say whether a change has come since the last checkpoint, so that there must be one."""
    made = steps(trial, place)
    return any(place.made < step <= made for step, _ in trial.agent.schedule)


def settings(trial: Trial, place: Place) -> dict[str, Any]:
    """Return the settings that the agent of *trial* has at *place*, the last checkpoint."""
    return at(trial.agent.config, trial.agent.schedule, steps(trial, place))


def born(trial: Trial, config: Mapping[str, Any]) -> Agent:
    """Return the agent of *trial*, newborn, with the settings *config*."""
    world = world_spec(trial.tasks, trial.budget.num_envs)
    world = replace(world, given=trial.after is not None, gpus=trial.budget.gpus)
    agent = changed(trial.agent, config=dict(config))
    return contract.make(agent, world, integer(trial.seed, "agent"))


def switched(agent: Agent, trial: Trial, config: Mapping[str, Any]) -> Agent:
    """Return *agent* as it is, but with the settings *config*."""
    heir = born(trial, config)
    with tempfile.TemporaryDirectory(prefix="rigorl-") as folder:
        agent.save(Path(folder))
        heir.load(Path(folder))
    return heir


@contextmanager
def found(trial: Trial, whole: Store | None) -> Iterator[checkpoint.Found]:
    """Lend the checkpoint in *whole* to go on from.

    A trial that has none takes over that of the trial that it is like up to its last change.
    """
    store = whole.below(trial.id) if whole else None
    like = trial.before_last_change
    if whole and store and like and not checkpoint.checkpoints(store):
        other, step = like
        checkpoint.take_over(store, whole.below(other.id), step, trial.id)
    with checkpoint.newest(store) as newest:
        yield newest


def start(trial: Trial, found: checkpoint.Found) -> Start:
    """Return that *trial* is taken up where *found* stands."""
    place = found.place
    return Start(
        trial=trial.id,
        stage=place.stage,
        step=place.step,
        host=gethostname(),
        note=found.note,
        rungs=place.told,
    )


def given(trial: Trial, storage: Store | None) -> dict[str, Policy]:
    """Return the final policies of the trial that *trial* comes after."""
    return {} if trial.after is None else final(trial.after, storage, f"trial {trial.id}")


def final(of: str, storage: Store | None, who: str) -> dict[str, Policy]:
    """Return the final policies of the trial *of*, for *who* needs them."""
    store = storage.below(of) if storage else None
    with store.lent(POLICIES) if store else nullcontext() as folder:
        if folder is None:
            raise IncompleteResults(
                f"{who} must be given the policies of trial {of}, but {store} holds none; play "
                "that one first, and keep its storage"
            )
        fault = checkpoint.verify(folder)
        if fault is not None:
            raise StorageError(
                f"the final policies of trial {of} must be as they were written, for {who} needs "
                f"them, but {store}/{POLICIES}: {fault}; put a copy of them there, or play the "
                "study in another place with --home or --storage"
            )
        return contract.load_policies(folder)
