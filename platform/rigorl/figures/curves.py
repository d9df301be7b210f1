"""Learning curves: every task, all along, with the switches between tasks."""

from collections.abc import Mapping, Sequence
from textwrap import wrap

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from rigorl.analysis.curves import Curve
from rigorl.figures.bands import Seeds, band, over_seeds, styles
from rigorl.figures.gaps import gap
from rigorl.spec import Experiment

WIDE = 95
"""Characters of a title that a line has room for."""


def learning_curves(spec: Experiment, curves: Mapping[str, Sequence[Curve]]) -> go.Figure:
    """Return a panel for each task: the mean return over test seeds, arm by arm, with their range.

    The task of a panel is learned where its background is shaded; upright lines are switches.
    What the mean lost since then, below what it was when learned, is hatched. A placebo is a
    dotted line in the colour of its arm. *curves* holds, for each arm, one curve a seed.
    """
    tasks = [task.name for task in spec.tasks]
    figure = make_subplots(
        rows=len(tasks), shared_xaxes=True, vertical_spacing=0.08, subplot_titles=tasks
    )
    for row, task in enumerate(tasks, 1):
        end = row * spec.budget.steps
        for arm, style in styles(spec, curves).items():
            seeds = _on(task, curves[arm])
            if not style.is_placebo:
                for trace in gap(seeds, _when(end, seeds.at_N), arm, style):
                    figure.add_trace(trace, row=row, col=1)
            for trace in band(seeds, arm, style, legend=row == 1):
                figure.add_trace(trace, row=row, col=1)
        figure.add_vrect(
            end - spec.budget.steps, end, fillcolor="#888", opacity=0.15, line_width=0,
            layer="below", row=row, col=1,
        )  # fmt: skip
        for switch in range(1, len(tasks)):
            figure.add_vline(
                switch * spec.budget.steps, line={"color": "#555", "width": 1}, row=row, col=1
            )
        figure.update_yaxes(title_text="return", row=row, col=1)
    figure.update_xaxes(title_text="environment steps", row=len(tasks), col=1)
    figure.update_layout(
        title="<br>".join(wrap(spec.question, WIDE)),
        template="plotly_white", height=120 + 260 * len(tasks), width=980,
    )  # fmt: skip
    return figure


def _on(task: str, curves: Sequence[Curve]) -> Seeds:
    row = curves[0].tasks.index(task)
    return over_seeds([(curve.total_step_N, curve.scores_TN[row]) for curve in curves])


def _when(end: int, step_N: NDArray[np.float64]) -> int | None:
    """Return which exam is the last of a stage that ended at *end*; None if none came later."""
    before = int((step_N <= end).sum())
    return before - 1 if 0 < before < len(step_N) else None
