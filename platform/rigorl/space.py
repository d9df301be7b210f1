"""What a search chooses from: dimensions, of which some count only where another has a value.

A configuration gives a value to each dimension that counts. Laws between dimensions are written
as Python compares: `minibatch <= 8 * n_steps`. A setting within a setting has a name with a dot:
`method.strength`.
"""

import ast
import math
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Any

from msgspec import Meta, Struct

Value = str | int | float | bool
Config = Mapping[str, Any]
When = dict[str, Value | tuple[Value, ...]]
"""Names of other dimensions, with the values at which this one counts."""
Levels = Annotated[int, Meta(ge=2)]
OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.USub: operator.neg,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


class Dimension(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What may be chosen for one setting. It counts `when` others have the values named."""

    when: When = {}


class Real(Dimension, frozen=True, tag_field="kind", tag="real"):
    """A number between two others, evenly or evenly in its logarithm; on a grid, so many."""

    low: float
    high: float
    log: bool = False
    levels: Levels | None = None

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, log=self.log)

    def takes(self, value: Any) -> bool:
        """Say whether *value* may be chosen."""
        return _is_number(value) and self.low <= value <= self.high

    def grid(self) -> list[Value]:
        """Return what a grid tries. Raises `ValueError` where nobody said how much."""
        return list(_levels(self.low, self.high, self.levels, log=self.log))


class Integer(Dimension, frozen=True, tag_field="kind", tag="integer"):
    """A whole number between two others, both included; on a grid, so many of them."""

    low: int
    high: int
    log: bool = False
    levels: Levels | None = None

    def __post_init__(self) -> None:
        _check_range(self.low, self.high, log=self.log)

    def takes(self, value: Any) -> bool:
        return isinstance(value, int) and _is_number(value) and self.low <= value <= self.high

    def grid(self) -> list[Value]:
        exact = _levels(self.low, self.high, self.levels, log=self.log)
        return list(dict.fromkeys(round(value) for value in exact))


class Choice(Dimension, frozen=True, tag_field="kind", tag="choice"):
    """One of several values."""

    of: Annotated[tuple[Value, ...], Meta(min_length=1)]

    def takes(self, value: Any) -> bool:
        return any(_same(value, one) for one in self.of)

    def grid(self) -> list[Value]:
        return list(self.of)


Over = Real | Integer | Choice
Space = dict[str, Over]


def check(space: Space) -> None:
    """Refuse, by `ValueError`, what is said of one dimension and another one belies."""
    for name, over in space.items():
        for other, values in over.when.items():
            if other not in space or other == name:
                raise ValueError(
                    f"when must name another dimension of the space, but {name} says {other!r}; "
                    f"the others are {', '.join(sorted(space.keys() - {name})) or 'none'}"
                )
            for value in _several(values):
                if not space[other].takes(value):
                    raise ValueError(
                        f"when must say what can be, but {name} counts when {other} is {value!r}, "
                        "which it never is; correct it, or drop the branch"
                    )
    ordered(space)


def ordered(space: Space) -> list[str]:
    """Return the names of *space*, each after those that it depends on; else as written."""
    done: dict[str, None] = {}
    while len(done) < len(space):
        ready = [
            n for n, over in space.items() if n not in done and over.when.keys() <= done.keys()
        ]
        if not ready:
            circle = ", ".join(name for name in space if name not in done)
            raise ValueError(f"when must not lead in a circle, but does for {circle}; cut it")
        done |= dict.fromkeys(ready)
    return list(done)


def counts(over: Over, config: Config) -> bool:
    """Say whether a dimension counts, by what *config* gives to those before it."""
    return all(
        other in config and any(_same(config[other], value) for value in _several(values))
        for other, values in over.when.items()
    )


def reduced(space: Space, config: Config) -> dict[str, Any]:
    """Return *config* without what does not count, in the order of the space."""
    kept: dict[str, Any] = {}
    for name in ordered(space):
        if name in config and counts(space[name], kept):
            kept[name] = config[name]
    return {name: kept[name] for name in space if name in kept}


def fits(space: Space, config: Config) -> bool:
    """Say whether *config* gives a value to each dimension that counts, and to no other."""
    for name in ordered(space):
        if counts(space[name], config) != (name in config):
            return False
        if name in config and not space[name].takes(config[name]):
            return False
    return config.keys() <= space.keys()


def grid(space: Space) -> Iterator[dict[str, Any]]:
    """Yield each configuration of the grid once, the last dimensions fastest."""
    yield from _grid(space, ordered(space), {})


def _grid(space: Space, names: Sequence[str], config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if not names:
        yield {name: config[name] for name in space if name in config}
        return
    first, *rest = names
    if not counts(space[first], config):
        yield from _grid(space, rest, config)
        return
    for value in space[first].grid():
        yield from _grid(space, rest, {**config, first: value})


def merged(settings: Config, chosen: Config) -> dict[str, Any]:
    """Return *settings* with what was *chosen* in its place, `method.strength` within `method`."""
    whole = dict(settings)
    for name, value in chosen.items():
        outer, dot, inner = name.partition(".")
        if dot:
            part = whole.get(outer, {})
            whole[outer] = merged(part if isinstance(part, Mapping) else {}, {inner: value})
        else:
            whole[outer] = value
    return whole


def setting(settings: Any, name: str) -> Any:
    """Return what *settings*, typed or not, have under *name*; `KeyError` where they are silent."""
    for part in name.split("."):
        if isinstance(settings, Mapping):
            settings = settings[part]
        elif hasattr(settings, part):
            settings = getattr(settings, part)
        else:
            raise KeyError(name)
    return settings


def names_of(law: str) -> set[str]:
    """Return the names that *law* compares. Raises `ValueError` where it is none."""
    tree = _parsed(law)
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def holds(law: str, config: Config) -> bool:
    """Say whether *config* keeps *law*. One of what does not count is kept."""
    tree = _parsed(law)
    if not names_of(law) <= config.keys():
        return True
    try:
        return bool(_worth(tree, config))
    except (ArithmeticError, TypeError):  # what cannot be worked out is not kept
        return False


def compares(law: str, config: Config) -> bool:
    """Say whether *law* compares what can be compared, in *config*."""
    try:
        _worth(_parsed(law), config)
    except ArithmeticError:
        return True
    except TypeError:
        return False
    return True


def _parsed(law: str) -> ast.expr:
    try:
        tree = ast.parse(law.strip(), mode="eval").body
    except SyntaxError as error:
        raise ValueError(_no_law(law)) from error
    known = (ast.Compare, ast.BinOp, ast.UnaryOp, ast.Name, ast.Constant, ast.Load, *OPERATORS)
    if not isinstance(tree, ast.Compare) or not all(isinstance(n, known) for n in ast.walk(tree)):
        raise ValueError(_no_law(law))
    return tree


def _no_law(law: str) -> str:
    return (
        f"a constraint must compare numbers and names of the space, but is {law!r}; write it as "
        "`minibatch <= 8 * n_steps`"
    )


def _worth(node: ast.expr, config: Config) -> Any:
    match node:
        case ast.Compare(left=left, ops=ops, comparators=others):
            sides = [_worth(side, config) for side in (left, *others)]
            return all(
                OPERATORS[type(op)](a, b) for op, (a, b) in zip(ops, pairwise(sides), strict=True)
            )
        case ast.BinOp(left=left, op=op, right=right):
            return OPERATORS[type(op)](_worth(left, config), _worth(right, config))
        case ast.UnaryOp(op=op, operand=operand):
            return OPERATORS[type(op)](_worth(operand, config))
        case ast.Name(id=name):
            return config[name]
        case ast.Constant(value=value):
            return value
    raise AssertionError(node)


def _check_range(low: float, high: float, *, log: bool) -> None:
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"low must be below high, but they are {low} and {high}; swap them")
    if log and low <= 0:
        raise ValueError(
            f"low must be above 0 on a log scale, but is {low}; raise it or drop `log`"
        )


def _levels(low: float, high: float, levels: int | None, *, log: bool) -> list[float]:
    """Return *levels* numbers, the ends exact, evenly or evenly in their logarithm."""
    if levels is None:
        raise ValueError("a grid must say its `levels`")
    between = [i / (levels - 1) for i in range(1, levels - 1)]
    inner = [low * (high / low) ** x if log else low + (high - low) * x for x in between]
    return [low, *inner, high]


def _several(values: Value | tuple[Value, ...]) -> tuple[Value, ...]:
    return values if isinstance(values, tuple) else (values,)


def _same(a: Any, b: Any) -> bool:
    """1 is True to Python, and not to a person."""
    return a == b and isinstance(a, bool) == isinstance(b, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
