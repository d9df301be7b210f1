"""What policies are called that say how a world is disturbed, and read back from their names.

A name is also that of a folder and part of a metric, so what a body is called is quoted.
"""

import math
from typing import NamedTuple
from urllib.parse import quote, unquote

NOMINAL = "nominal"
"""The policy that is under attack, alone."""
UP, DOWN = "up", "down"


class Attack(NamedTuple):
    """A learned attacker, by its number, held to a share of the port's limit."""

    attacker: int
    strength: float


class Push(NamedTuple):
    """One push of a body, for so many steps.

    `strength` is a share of the port's limit. `direction` is `up`, `down`, or degrees from the
    first of the port's axes towards the second.
    """

    body: str
    strength: float
    direction: float | str
    steps: int


class Sinus(NamedTuple):
    """A force along a direction that swings for a whole episode, with a period in steps."""

    body: str
    strength: float
    direction: float | str
    period: int


Disturbance = Attack | Push | Sinus


def name(what: Disturbance) -> str:
    """Return `attack-0@0.25`, `push:torso:0.50:090:10` or `sinus:torso:0.50:000:32`."""
    if isinstance(what, Attack):
        return f"attack-{what.attacker}@{_share(what.strength)}"
    kind = "push" if isinstance(what, Push) else "sinus"
    body, strength, direction, steps = what
    way = direction if isinstance(direction, str) else _degrees(direction)
    return f"{kind}:{quote(body, safe='')}:{_share(strength)}:{way}:{steps}"


def parse(text: str) -> Disturbance | None:
    """Return what is called *text*; None for what is no such name."""
    try:
        found = _parsed(text)
    except ValueError:
        return None
    if found is None or not 0 < found.strength <= 1 or name(found) != text:
        return None
    return found


def _parsed(text: str) -> Disturbance | None:
    head, at, share = text.partition("@")
    if at and head.startswith("attack-"):
        return Attack(int(head.removeprefix("attack-")), float(share))
    kind, *parts = text.split(":")
    if kind not in {"push", "sinus"}:
        return None
    body, strength, way, steps = parts
    direction = way if way in {UP, DOWN} else float(way)
    made = Push if kind == "push" else Sinus
    return made(unquote(body), float(strength), direction, int(steps))


def unit(direction: float | str, axes: int) -> tuple[float, ...]:
    """Return *direction* as a vector of length 1 along so many *axes*, three at most."""
    if isinstance(direction, str):
        return (0.0, 0.0, 1.0 if direction == UP else -1.0)
    turn = math.radians(direction)
    # To ten digits, so that along an axis it is nothing across it.
    circle = round(math.cos(turn), 10), round(math.sin(turn), 10), 0.0
    return circle[:axes]


def directions(axes: int, count: int) -> tuple[float | str, ...]:
    """Return *count* ways around the circle of two *axes*.

    Along one axis these are both, and of three the circle of the first two, and up and down.
    """
    if axes == 1:
        return 0.0, 180.0
    circle = tuple(round(360 * i / count, 2) for i in range(count))
    return circle if axes == 2 else (*circle, UP, DOWN)  # noqa: PLR2004


def _share(strength: float) -> str:
    short = f"{strength:.2f}"
    return short if float(short) == strength else repr(strength)


def _degrees(direction: float) -> str:
    short = f"{direction:03.0f}"
    return short if float(short) == direction else repr(direction)
