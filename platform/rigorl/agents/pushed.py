"""Pushed: examines the policy of another arm's trial under pushes that are written down.

It learns nothing, whatever the budget's steps, and is examined once, at their end: under every
push of a grid (each body of the port, strength, direction and duration, one push an episode),
under forces that swing as a sine throughout (`sinus`, periods in steps: the worst of the responses
to these is an empirical frequency response), and as it is, `nominal`. What policies are called says
how they are pushed, as `push:torso:0.50:090:10`: half of the limit, at 90 degrees from the first of
the port's axes towards the second, for ten steps.
"""

from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Annotated

from msgspec import Meta, Struct

from rigorl.blocks import attacked
from rigorl.blocks.scripted import Script, Scripted, load_policy
from rigorl.contract import Crew, Progress, Span
from rigorl.errors import SpecError
from rigorl.tasks import pushes
from rigorl.tasks.pushes import Push, Sinus
from rigorl.tasks.world import Policy, World, WorldSpec

__all__ = ["Config", "Pushed", "load_policy", "make"]

Share = Annotated[float, Meta(gt=0, le=1)]
Count = Annotated[int, Meta(gt=0)]
AXES = 3


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    strengths: tuple[Share, ...] = (0.25, 0.5, 0.75, 1.0)
    """Of the port's limit."""
    directions: Annotated[int, Meta(ge=2)] = 8
    """So many around the circle of two axes; of one axis there are two, and of three also up
    and down."""
    durations: tuple[Count, ...] = (10,)
    """Steps that a push lasts; none, and there are no pushes."""
    at: Annotated[int, Meta(ge=0)] = 50
    """The step of an episode with which a push begins."""
    sinus: tuple[Annotated[int, Meta(ge=3)], ...] = ()

    def __post_init__(self) -> None:
        for name in ("strengths", "durations", "sinus"):
            values = getattr(self, name)
            if len(set(values)) != len(values):
                raise ValueError(f"{name} must differ, but are {list(values)}; drop one")


def make(config: Config, world: WorldSpec, seed: int) -> "Pushed":
    del seed
    attacked.check(world, "pushed")
    port = world.tasks[0].port
    named = port.bodies if port is not None else ()
    # A system has no bodies, and of more than three numbers no directions: one is pushed at a time.
    bodies = named or (
        ("system",) if world.forces <= AXES else tuple(map(str, range(world.forces)))
    )
    axes = world.forces // len(bodies)
    if not config.strengths or not (config.durations or config.sinus):
        raise SpecError(
            "pushed must have something to push with, but has no strengths, or neither durations "
            "nor sinus; write strengths: [1.0] and durations: [10]",
            "$.config",
        )
    return Pushed(config, bodies, axes)


class Pushed:
    def __init__(self, config: Config, bodies: tuple[str, ...], axes: int) -> None:
        self.config, self.bodies, self.axes = config, bodies, axes
        self.given: Mapping[str, Policy] = {}
        self.limit = 0.0

    def learn(self, world: World, crew: Crew, span: Span) -> Iterator[Progress]:
        del crew
        assert world.port is not None  # noqa: S101  refused before
        attacked.only(world.given, "pushed")
        self.given, self.limit = world.given, world.port.limit
        yield Progress(span.stop, 0)

    def policies(self) -> Mapping[str, Policy]:
        if not self.given:  # nobody to push is known before `learn`
            return {}
        victim = attacked.only(self.given, "pushed")
        scripts = {pushes.name(what): self._script(what) for what in self.grid()}
        pushed = {name: Scripted(victim, script) for name, script in scripts.items()}
        return {pushes.NOMINAL: victim, **pushed}

    def grid(self) -> Iterator[Push | Sinus]:
        """Yield all that the policy is put to."""
        config = self.config
        ways = pushes.directions(self.axes, config.directions)
        for body, strength, way in product(self.bodies, config.strengths, ways):
            yield from (Push(body, strength, way, steps) for steps in config.durations)
            yield from (Sinus(body, strength, way, period) for period in config.sinus)

    def _script(self, what: Push | Sinus) -> Script:
        force = [0.0] * (len(self.bodies) * self.axes)
        start, size = self.bodies.index(what.body) * self.axes, what.strength * self.limit
        way = pushes.unit(what.direction, self.axes)
        force[start : start + self.axes] = [size * part for part in way]
        if isinstance(what, Sinus):
            return Script(tuple(force), period=what.period)
        return Script(tuple(force), at=self.config.at, steps=what.steps)

    def save(self, folder: Path) -> None:
        """Nothing was learned."""

    def load(self, folder: Path) -> None:
        """Nothing is restored."""
