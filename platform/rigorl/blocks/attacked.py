"""A policy that is disturbed while it acts, and who disturbs it: what attackers are examined as.

Shapes: B batch, F numbers of a force.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from rigorl.blocks import greedy
from rigorl.blocks.forces import squash
from rigorl.blocks.greedy import GreedyPolicy
from rigorl.errors import SpecError, TrialFailed
from rigorl.tasks import world as worlds
from rigorl.tasks.world import Policy, WorldSpec, save_policy

Array = NDArray[Any]


class Attacked:
    """The *victim* acts, and *disturber* pushes as it finds likeliest, up to a share of *limit*.

    That *strength* is the last of what it sees.
    """

    def __init__(
        self, victim: Policy, disturber: GreedyPolicy, strength: float, limit: float
    ) -> None:
        self.victim, self.disturber = victim, disturber
        self.strength, self.limit = strength, limit

    def __call__(self, obs: Array, /) -> Array:
        return self.victim(obs)

    def push(self, obs: Array, /) -> Array:
        push_BF = self.disturber(seen(obs, np.full(len(obs), self.strength)))
        return squash(push_BF.astype(np.float64), self.strength * self.limit)

    def save(self, folder: Path) -> None:
        save_policy(self.victim, folder / "victim")
        mine = folder / "disturber"
        mine.mkdir()
        self.disturber.save(mine)
        kept = {"strength": self.strength, "limit": self.limit}
        (folder / "attacked.json").write_bytes(msgspec.json.encode(kept))


def load_policy(folder: Path) -> Attacked:
    """Return the policy that `Attacked.save` wrote into *folder*."""
    kept = msgspec.json.decode((folder / "attacked.json").read_bytes())
    disturber = greedy.load_policy(folder / "disturber")
    return Attacked(
        worlds.load_policy(folder / "victim"), disturber, kept["strength"], kept["limit"]
    )


def seen(obs: Array, strength_B: Array) -> Array:
    """Return obs_BD, flat, with how strong a disturber may be as its last column."""
    return np.concatenate([obs.reshape(len(obs), -1), strength_B[:, None]], 1)


def check(world: WorldSpec, who: str) -> None:
    """Refuse a *world* in which the agent *who* has nobody, or nothing, to push."""
    if not world.given:
        raise SpecError(f"{who} must come after another arm; add `after: <arm>` to its arm")
    if not world.forces:
        raise SpecError(
            f"{who} must have something to push by, but the tasks have no port; give each a `port`"
        )
    ports = [task.port for task in world.tasks if task.port is not None]
    differ = {(p.limit, p.unit, p.bodies, p.axes, p.frame) for p in ports}
    if len(differ) > 1 or (len(ports) > 1 and ports[0].unit == "weight"):
        raise SpecError(
            f"tasks must share their port, `best` aside, for {who} to push on all of them, and "
            "its limit must be in newtons where there are several tasks; change the ports, or "
            "leave one task to another experiment"
        )


def only(given: Mapping[str, Policy], who: str) -> Policy:
    """Return the one policy that is *given* to the agent *who*; refuse several."""
    if len(given) != 1:
        raise TrialFailed(
            f"{who} must come after an arm with one policy, but that has {len(given)}: "
            f"{', '.join(sorted(given)[:8])}; name another arm in `after`"
        )
    return next(iter(given.values()))
