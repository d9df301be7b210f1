"""Under attack: returns by how hard, and from where, arms are pushed; and the price of a bound."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from rigorl.analysis.robust import Grid
from rigorl.analysis.verdict import Verdict
from rigorl.figures.bands import Seeds, band, over_seeds, styles
from rigorl.spec import Experiment
from rigorl.trial import Report

PRICES = ("lambda", "slack")
"""Metrics of a learner under a bound."""
Told = Mapping[str, Sequence[Sequence[Report]]]
"""Of each arm the reports of its trials, one sequence a seed."""


def strengths(spec: Experiment, verdict: Verdict) -> go.Figure | None:
    """Return a panel for each task that is attacked: the return under the worst attacker by share.

    Bands reach from the lowest to the highest seed. None where there are no attackers.
    """
    found: dict[str, dict[str, Seeds]] = {}
    for arm, one in verdict.arms.items():
        for task, robust in one.robust.items():
            levels = [x for x in robust.levels if None not in x.earned.by_seed]
            if len(levels) > 1:
                at, scores = [x.strength for x in levels], [x.earned.by_seed for x in levels]
                seeds = zip(*scores, strict=True)
                found.setdefault(task, {})[arm] = over_seeds([(at, list(one)) for one in seeds])
    if not found:
        return None
    figure = make_subplots(rows=1, cols=len(found), subplot_titles=list(found))
    looks, seen = styles(spec, {arm: () for arms in found.values() for arm in arms}), set[str]()
    for col, arms in enumerate(found.values(), 1):
        for arm, seeds_ in arms.items():
            figure.add_traces(band(seeds_, arm, looks[arm], legend=arm not in seen), 1, col)
            seen.add(arm)
        figure.update_xaxes(title_text="share of the limit", row=1, col=col)
    figure.update_yaxes(title_text="return", col=1)
    figure.update_layout(
        title="Under the worst attacker", template="plotly_white", width=980, height=420
    )
    return figure


def directions(spec: Experiment, verdict: Verdict) -> go.Figure | None:
    """Return a circle for each task that is pushed: the return by the direction of a push.

    At the greatest strength, the worst over bodies and durations, the mean over seeds. Up and down
    of three axes are not on it. None where nobody is pushed around a circle.
    """
    found: dict[str, dict[str, tuple[list[float], list[float]]]] = {}
    for arm, one in verdict.arms.items():
        for task, robust in one.robust.items():
            around = _around(robust.grid) if robust.grid else None
            if around is not None:
                found.setdefault(task, {})[arm] = around
    if not found:
        return None
    figure = make_subplots(
        rows=1,
        cols=len(found),
        subplot_titles=list(found),
        specs=[[{"type": "polar"}] * len(found)],
    )
    looks, seen = styles(spec, {arm: () for arms in found.values() for arm in arms}), set[str]()
    for col, arms in enumerate(found.values(), 1):
        ends = [value for _, earned in arms.values() for value in earned]
        for arm, (degrees, earned) in arms.items():
            figure.add_trace(
                go.Scatterpolar(
                    theta=[*degrees, degrees[0]], r=[*earned, earned[0]], name=arm, mode="lines",
                    legendgroup=arm, showlegend=arm not in seen, line={"color": looks[arm].color},
                ),
                row=1, col=col,
            )  # fmt: skip
            seen.add(arm)
        # The centre is a little below the worst, so that returns below 0 do not turn around.
        low, high = min(ends), max(ends)
        room = 0.1 * (high - low) or 1.0
        figure.update_polars(radialaxis_range=[low - room, high + room], row=1, col=col)
    figure.update_layout(
        title="By the direction of a push", template="plotly_white", width=980, height=460
    )
    return figure


def _around(grid: Grid) -> tuple[list[float], list[float]] | None:
    """Return degrees, and what was earned there; None unless there are three on a circle."""
    earned_BSDL = np.array(grid.earned, dtype=np.float64)
    strongest = int(np.argmax(grid.strengths))
    worst_D = earned_BSDL[:, strongest].min(axis=(0, 2))
    on_circle = [
        (float(way), x) for way, x in zip(grid.directions, worst_D, strict=True) if way[0].isdigit()
    ]
    if len(on_circle) < 3 or not np.isfinite([x for _, x in on_circle]).all():  # noqa: PLR2004
        return None
    return [way for way, _ in on_circle], [float(x) for _, x in on_circle]


def prices(spec: Experiment, told: Told) -> go.Figure | None:
    """Return lambda and slack, as a learner told them all along, a panel each.

    None where no arm of *told* learned under a bound.
    """
    figure = make_subplots(
        rows=len(PRICES), shared_xaxes=True, vertical_spacing=0.1, subplot_titles=PRICES
    )
    looks, seen = styles(spec, dict.fromkeys(told, ())), set[str]()
    for row, metric in enumerate(PRICES, 1):
        for arm, seeds in told.items():
            found = [_over(spec, reports, metric) for reports in seeds]
            if found and all(len(at) for at, _ in found):
                traces = band(over_seeds(found), arm, looks[arm], legend=arm not in seen)
                figure.add_traces(traces, rows=row, cols=1)
                seen.add(arm)
        figure.update_yaxes(title_text=metric, row=row, col=1)
    figure.add_hline(0, line={"color": "#555", "width": 1, "dash": "dot"}, row=2, col=1)
    figure.update_xaxes(title_text="environment steps", row=len(PRICES), col=1)
    figure.update_layout(
        title="The price of a bound", template="plotly_white", width=980, height=520
    )
    return figure if seen else None


def _over(
    spec: Experiment, reports: Sequence[Report], metric: str
) -> tuple[list[int], list[float]]:
    """Return the steps since birth at which *metric* was told, and what it was."""
    has = [report for report in reports if metric in report.metrics]
    at = [report.stage * spec.budget.steps + report.step for report in has]
    return at, [report.metrics[metric] for report in has]
