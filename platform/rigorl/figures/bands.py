"""A curve for each arm: the mean over its seeds, and between which of them it lies."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import plotly.graph_objects as go
from numpy.typing import ArrayLike, NDArray
from plotly.colors import qualitative

from rigorl.analysis.curves import Curve
from rigorl.analysis.lessons import FROZEN
from rigorl.spec import Experiment

Array = NDArray[np.float64]


class Style(NamedTuple):
    """How an arm is drawn. A placebo has the colour of the arm whose policies it holds."""

    color: str
    is_placebo: bool

    def faint(self, opacity: float) -> str:
        return f"rgba{(*(int(self.color[i : i + 2], 16) for i in (1, 3, 5)), opacity)}"


class Seeds(NamedTuple):
    """What seeds scored at each moment."""

    at_N: Array
    low_N: Array
    mean_N: Array
    high_N: Array


def styles(spec: Experiment, curves: Mapping[str, Sequence[Curve]]) -> dict[str, Style]:
    """Return how each arm of *curves* is drawn."""
    placebo = {arm for arm in curves if spec.arms[arm].agent.name == FROZEN}
    peers = [arm for arm in spec.arms if spec.arms[arm].agent.name != FROZEN]
    colors = {arm: qualitative.D3[n % len(qualitative.D3)] for n, arm in enumerate(peers)}
    return {
        arm: Style(colors.get(spec.arms[arm].after or "", "#777777"), is_placebo=True)
        if arm in placebo
        else Style(colors[arm], is_placebo=False)
        for arm in curves
    }


def over_seeds(curves: Sequence[tuple[ArrayLike, ArrayLike]]) -> Seeds:
    """Return the lowest, mean and highest score at each moment of (moments, scores), one a seed.

    Exams at one and the same moment, as at a step some updates apart, all stay, and draw an
    upright line. Only where seeds were examined at other moments is each interpolated.
    """
    seeds = [(np.asarray(at, np.float64), np.asarray(score)) for at, score in curves]
    at_N = seeds[0][0]
    if all(np.array_equal(at, at_N) for at, _ in seeds):
        scores_SN = np.stack([score for _, score in seeds])
    else:
        at_N = np.unique(np.concatenate([at for at, _ in seeds]))
        scores_SN = np.stack([np.interp(at_N, at, score) for at, score in seeds])
    return Seeds(at_N, scores_SN.min(axis=0), scores_SN.mean(axis=0), scores_SN.max(axis=0))


def band(seeds: Seeds, arm: str, style: Style, *, legend: bool) -> list[go.Scatter]:
    """Return the range and the mean of *seeds*; of a placebo a dotted line.

    A single moment, at which no line could be seen, is a point with a bar.
    """
    if len(seeds.at_N) == 1:
        return [_point(seeds, arm, style, legend=legend)]
    dash = "dot" if style.is_placebo else "solid"
    line = go.Scatter(
        x=seeds.at_N, y=seeds.mean_N, name=arm, mode="lines", legendgroup=arm, showlegend=legend,
        line={"color": style.color, "dash": dash},
    )  # fmt: skip
    if style.is_placebo:
        return [line]
    edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    fill = style.faint(0.2)
    return [
        go.Scatter(x=seeds.at_N, y=seeds.low_N, legendgroup=arm, **edge),
        go.Scatter(
            x=seeds.at_N, y=seeds.high_N, fill="tonexty", fillcolor=fill, legendgroup=arm, **edge
        ),
        line,
    ]


def _point(seeds: Seeds, arm: str, style: Style, *, legend: bool) -> go.Scatter:
    above, below = seeds.high_N - seeds.mean_N, seeds.mean_N - seeds.low_N
    return go.Scatter(
        x=seeds.at_N, y=seeds.mean_N, name=arm, mode="markers", legendgroup=arm, showlegend=legend,
        marker={"color": style.color, "symbol": "circle-open" if style.is_placebo else "circle"},
        error_y={"array": above, "arrayminus": below, "symmetric": False, "thickness": 1},
    )  # fmt: skip
