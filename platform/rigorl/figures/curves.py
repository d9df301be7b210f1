"""Learning curves: every task, all along, with the switches between tasks."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.colors import qualitative
from plotly.subplots import make_subplots

from rigorl.analysis.curves import Curve
from rigorl.spec import Experiment


def learning_curves(spec: Experiment, curves: Mapping[str, Sequence[Curve]]) -> go.Figure:
    """Return a panel for each task: the mean return over test seeds, arm by arm, with their range.

    The task of a panel is learned where its background is shaded. *curves* holds, for each
    arm, one curve a seed.
    """
    tasks = [task.name for task in spec.tasks]
    figure = make_subplots(
        rows=len(tasks), shared_xaxes=True, vertical_spacing=0.08, subplot_titles=tasks
    )
    for row, task in enumerate(tasks, 1):
        for number, (arm, seeds) in enumerate(curves.items()):
            color = qualitative.D3[number % len(qualitative.D3)]
            for trace in _band(arm, color, *_over_seeds(task, seeds), legend=row == 1):
                figure.add_trace(trace, row=row, col=1)
        start = (row - 1) * spec.budget.steps
        figure.add_vrect(
            start, start + spec.budget.steps, fillcolor="#888", opacity=0.15, line_width=0,
            layer="below", row=row, col=1,
        )  # fmt: skip
        figure.update_yaxes(title_text="return", row=row, col=1)
    figure.update_xaxes(title_text="environment steps", row=len(tasks), col=1)
    figure.update_layout(
        title=spec.question, template="plotly_white", height=120 + 260 * len(tasks), width=980
    )
    return figure


def _over_seeds(task: str, curves: Sequence[Curve]) -> tuple[NDArray[np.float64], ...]:
    """Return steps, and the lowest, mean and highest return at each of them.

    Exams at one and the same step, some updates apart, all stay, and draw an upright line.
    Only where seeds were examined at different steps is each interpolated to the steps of all.
    """
    row = curves[0].tasks.index(task)
    step_N = curves[0].total_step_N
    if all(np.array_equal(curve.total_step_N, step_N) for curve in curves):
        scores_SN = np.stack([curve.scores_TN[row] for curve in curves])
    else:
        step_N = np.unique(np.concatenate([curve.total_step_N for curve in curves]))
        scores_SN = np.stack(
            [np.interp(step_N, curve.total_step_N, curve.scores_TN[row]) for curve in curves]
        )
    low_N, mean_N, high_N = scores_SN.min(axis=0), scores_SN.mean(axis=0), scores_SN.max(axis=0)
    return step_N.astype(np.float64), low_N, mean_N, high_N


def _band(
    arm: str,
    color: str,
    step_N: NDArray[np.float64],
    low_N: NDArray[np.float64],
    mean_N: NDArray[np.float64],
    high_N: NDArray[np.float64],
    *,
    legend: bool,
) -> list[go.Scatter]:
    edge = {"mode": "lines", "line": {"width": 0}, "hoverinfo": "skip", "showlegend": False}
    fill = f"rgba{(*(int(color[i : i + 2], 16) for i in (1, 3, 5)), 0.2)}"
    return [
        go.Scatter(x=step_N, y=low_N, legendgroup=arm, **edge),
        go.Scatter(x=step_N, y=high_N, fill="tonexty", fillcolor=fill, legendgroup=arm, **edge),
        go.Scatter(
            x=step_N,
            y=mean_N,
            name=arm,
            mode="lines",
            line={"color": color},
            legendgroup=arm,
            showlegend=legend,
        ),
    ]
