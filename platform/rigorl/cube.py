"""A space as a cube: a number from 0 to 1 for each dimension.

Evenly, or evenly in the logarithm; whole numbers and choices have shares of the same length.
"""

import math

from rigorl.space import Choice, Integer, Over, Value


def place(over: Over, value: Value) -> float:
    """Return where *value* lies: a whole number, or a choice, in the middle of its share."""
    if isinstance(over, Choice):
        return (over.of.index(value) + 0.5) / len(over.of)
    assert not isinstance(value, str)  # noqa: S101
    low, high = _ends(over)
    found = math.log(value / low, high / low) if over.log else (value - low) / (high - low)
    return min(max(found, 0.0), 1.0)


def at(over: Over, place: float) -> Value:
    """Return what lies at *place*."""
    if isinstance(over, Choice):
        return over.of[min(int(place * len(over.of)), len(over.of) - 1)]
    low, high = _ends(over)
    value = low * (high / low) ** place if over.log else low + (high - low) * place
    if isinstance(over, Integer):
        return min(max(round(value), over.low), over.high)
    return min(max(value, over.low), over.high)


def _ends(over: Over) -> tuple[float, float]:
    assert not isinstance(over, Choice)  # noqa: S101
    half = 0.5 if isinstance(over, Integer) else 0.0
    return over.low - half, over.high + half
