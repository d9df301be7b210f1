"""Configurations side by side: each a line through what was chosen, coloured by its value."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from rigorl.figures.tidy import candidates, configs
from rigorl.space import Choice, Integer, Over, Space

BELOW = 0.12
"""So far below the axis, as a share of it, is the place of what does not count."""
ROOM, MOST = 0.05, 7
"""Marks of an axis are so far from its ends, as a share of it, and are no more than so many."""
FEW = 8
"""With more dimensions their names need room."""


def parallel_coordinates(frame: pd.DataFrame, arm: str, space: Space) -> go.Figure:
    """Return a line for each configuration of *arm* that finished, in any of its searches.

    Where a dimension does not count the line passes below its axis, at "absent".
    """
    found = candidates(frame[frame["arm"] == arm])
    finished = found[found["state"] == "finished"]
    names = [f"config.{name}" for name in space]
    shown = finished.drop_duplicates(subset=[n for n in names if n in configs(found)])
    axes = [_axis(name, over, list(shown[f"config.{name}"])) for name, over in space.items()]
    value = shown["value"].astype(float)
    figure = go.Figure(
        go.Parcoords(
            dimensions=[*axes, {"label": "value", "values": value}],
            line={"color": value, "colorscale": "Viridis", "colorbar": {"title": "value"}},
            labelangle=-20 if len(axes) > FEW else 0,
            tickfont={"size": 11},
        )
    )
    left = f", of {len(found)}" if len(finished) < len(found) else ""
    figure.update_layout(
        title=f"Configurations of {arm}: {len(shown)} that finished{left}",
        template="plotly_white",
        height=480,
        width=980,
        margin={"l": 70, "r": 60, "t": 130, "b": 40},
    )
    return figure


def _axis(name: str, over: Over, values: Sequence[Any]) -> dict[str, Any]:
    """Return one axis. The arm as it comes may lie off the space: the axis is as long as needed."""
    if isinstance(over, Choice):
        return _choices(name, over, values)
    at = np.array([_place(over, value) for value in values], dtype=np.float64)
    seen = at[np.isfinite(at)]
    low, high = (_place(over, end) for end in (over.low, over.high))
    low, high = min([low, *seen]), max([high, *seen])
    ticks = _ticks(over, low, high)
    if len(seen) < len(at):
        lowest = low - BELOW * (high - low)
        at = np.where(np.isfinite(at), at, lowest)
        ticks, low = {lowest: "absent"} | ticks, lowest
    return {
        "label": name,
        "values": at,
        "range": [low, high],
        "tickvals": list(ticks),
        "ticktext": list(ticks.values()),
    }


def _choices(name: str, over: Choice, values: Sequence[Any]) -> dict[str, Any]:
    """Return the axis of a choice: one place for each of its values, and for none."""
    known = [_said(value) for value in over.of]
    said = [_said(value) for value in values]
    places = list(dict.fromkeys([*known, *said]))
    if "absent" in places:
        places = ["absent", *(place for place in places if place != "absent")]
    return {
        "label": name,
        "values": [places.index(value) for value in said],
        "range": [-0.5, len(places) - 0.5],
        "tickvals": list(range(len(places))),
        "ticktext": places,
    }


def _said(value: Any) -> str:
    return "absent" if value is None or value is pd.NA or value != value else str(value)  # noqa: PLR0124


def _place(over: Over, value: Any) -> float:
    """Return where *value* stands on the axis of *over*; NaN where it has no place there."""
    if _said(value) == "absent" or isinstance(over, Choice):
        return math.nan
    if not over.log:
        return float(value)
    return math.log10(value) if value > 0 else math.nan


def _ticks(over: Over, low: float, high: float) -> dict[float, str]:
    """Return places and what stands there: the ends, and round numbers well apart from them."""
    log = not isinstance(over, Choice) and over.log
    whole = isinstance(over, Integer)
    worths = _rounds_log(10**low, 10**high) if log else _rounds(low, high)
    inner = [math.log10(worth) if log else worth for worth in worths if worth % 1 == 0 or not whole]
    apart = [at for at in inner if min(at - low, high - at) > ROOM * (high - low)]
    return {at: _written(10**at if log else at, whole=whole) for at in (low, *apart, high)}


def _rounds_log(low: float, high: float) -> list[float]:
    """Return decades, or 1, 2, 5 in each, or where not even these are enough, even steps."""
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in (1, 2, 5), (1,):
        found = [digit * 10.0**decade for decade in decades for digit in digits]
        found = [worth for worth in found if low < worth < high]
        if len(found) <= MOST:
            return found if len(found) > 1 else _rounds(low, high)
    return found[:: math.ceil(len(found) / MOST)]


def _rounds(low: float, high: float) -> list[float]:
    """Return multiples of 1, 2 or 5 of some power of ten, at most `MOST`."""
    unit = 10.0 ** math.floor(math.log10((high - low) / MOST))
    step = next(unit * by for by in (1, 2, 5, 10) if (high - low) / (unit * by) < MOST)
    return [n * step for n in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _written(value: float, *, whole: bool) -> str:
    return str(round(value)) if whole else f"{value:.4g}"
