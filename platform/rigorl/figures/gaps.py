"""The stability gap: what is lost after a switch, hatched, and the first updates seen closely."""

from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from rigorl.analysis.curves import Curve
from rigorl.figures.bands import Seeds, Style, band, over_seeds, styles
from rigorl.spec import Experiment


def gap(seeds: Seeds, learned: int | None, arm: str, style: Style) -> list[go.Scatter]:
    """Return the mean when learned, at exam number *learned*, as a line, and what is below it."""
    if learned is None:
        return []
    return _below(seeds.at_N[learned:], seeds.mean_N[learned:], seeds.mean_N[learned], arm, style)


def switches(spec: Experiment, curves: Mapping[str, Sequence[Curve]]) -> go.Figure | None:
    """Return a row for each switch: the task just left, and the one begun, by updates since then.

    On a logarithmic axis, for a gap opens within a few updates. None where no arm of *curves*
    that makes updates has come to a switch.
    """
    names = [task.name for task in spec.tasks]
    pairs = [(k, task) for k in range(1, len(names)) for task in (k - 1, k)]
    figure = make_subplots(
        rows=len(names) - 1, cols=2, horizontal_spacing=0.08,
        vertical_spacing=0.3 / max(1, len(names) - 1),
        subplot_titles=[f"{names[t]}, {'left' if t < k else 'begun'}" for k, t in pairs],
    )  # fmt: skip
    seen: set[str] = set()
    for k, task in pairs:
        at = {"row": k, "col": 1 + task - (k - 1)}
        for arm, style in styles(spec, curves).items():
            found = _since(k, task, curves[arm])
            if found is None:
                continue
            seeds, learned = found
            traces = band(seeds, arm, style, legend=arm not in seen)
            if task < k and not style.is_placebo:
                traces += _below(seeds.at_N, seeds.mean_N, learned, arm, style)
            seen.add(arm)
            figure.add_traces(traces, rows=at["row"], cols=at["col"])
        figure.update_xaxes(type="log", title_text="updates since the switch", **at)
    figure.update_yaxes(title_text="return", col=1)
    figure.update_layout(
        title="Just after each switch", template="plotly_white", width=980,
        height=140 + 280 * (len(names) - 1),
    )  # fmt: skip
    return figure if seen else None


def _since(stage: int, task: int, curves: Sequence[Curve]) -> tuple[Seeds, float] | None:
    """Return the scores on *task* by updates since *stage* began, and their mean until then.

    None where a seed has not come there, or made no update.
    """
    found, before = [], []
    for curve in curves:
        earlier = np.flatnonzero(curve.stage_N < stage)
        now_N = curve.stage_N == stage
        if not len(earlier):
            return None
        since_N = curve.update_N - curve.update_N[earlier[-1]]
        now_N &= since_N > 0
        if not now_N.any():
            return None
        found.append((since_N[now_N], curve.scores_TN[task, now_N]))
        before.append(float(curve.scores_TN[task, earlier[-1]]))
    return over_seeds(found), float(np.mean(before))


def _below(
    at_N: np.ndarray, mean_N: np.ndarray, learned: float, arm: str, style: Style
) -> list[go.Scatter]:
    hidden = {"hoverinfo": "skip", "showlegend": False, "legendgroup": arm, "mode": "lines"}
    pattern = {"shape": "/", "fgcolor": style.faint(0.8), "bgcolor": "rgba(0,0,0,0)", "size": 6}
    level = {"color": style.color, "width": 1, "dash": "dash"}
    return [
        go.Scatter(x=at_N, y=np.full(len(at_N), learned), line=level, **hidden),
        go.Scatter(
            x=at_N, y=np.minimum(mean_N, learned), line={"width": 0}, fill="tonexty",
            fillpattern=pattern, **hidden,
        ),
    ]  # fmt: skip
