"""Learning curves of candidates: who won, who was stopped, and where."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from rigorl.figures.tidy import configs, curves, steps

WINNER = "winner"
FIRST = "as it comes"
HOVER = "%{text}<br>step %{x:,}: %{y:.4g}<extra></extra>"


class Style(NamedTuple):
    """How curves of a kind are drawn, and how they end."""

    line: Mapping[str, Any]
    end: Mapping[str, Any]


STYLES = {
    "pruned": Style({"color": "#b0b0b0", "width": 1}, {"symbol": "x", "size": 8, "color": "#777"}),
    "failed": Style({"color": "#e08214", "width": 1}, {"symbol": "triangle-down", "size": 9}),
    "open": Style(
        {"color": "#80b1d3", "width": 1, "dash": "dot"}, {"symbol": "circle-open", "size": 6}
    ),
    "finished": Style({"color": "#5b87b5", "width": 1.2}, {"symbol": "circle", "size": 4}),
    FIRST: Style({"color": "#222", "width": 2, "dash": "dash"}, {"symbol": "circle", "size": 6}),
    WINNER: Style({"color": "#c51b7d", "width": 3}, {"symbol": "star", "size": 11}),
}
"""In the order of drawing: what matters comes last, and lies on top."""


def candidate_curves(frame: pd.DataFrame, arm: str) -> go.Figure:
    """Return a panel for each search of *arm*: the mean over tuning seeds of each candidate.

    Curves end where their candidate was stopped, with a mark that says how.
    """
    found = curves(frame[frame["arm"] == arm])
    searches = sorted(int(search) for search in found["search"].unique())
    titles = [f"search {search}" for search in searches] if len(searches) > 1 else None
    figure = make_subplots(
        rows=len(searches), shared_xaxes=True, vertical_spacing=0.08, subplot_titles=titles
    )
    legend = set()
    for row, search in enumerate(searches, 1):
        here = found[found["search"] == search]
        kinds = here.apply(_kind, axis=1)
        for kind in STYLES:
            if (kinds == kind).any():
                for trace in _lines(here[kinds == kind], kind, legend=kind not in legend):
                    figure.add_trace(trace, row=row, col=1)
                legend.add(kind)
        figure.update_yaxes(title_text="value", row=row, col=1)
    for stage in range(1, int(found["stage"].max()) + 1):
        figure.add_vline(stage * steps(frame), line={"color": "#888", "width": 1, "dash": "dot"})
    figure.update_xaxes(title_text="environment steps", row=len(searches), col=1)
    figure.update_layout(
        title=f"Candidates of {arm}, mean over tuning seeds",
        template="plotly_white",
        height=120 + 300 * len(searches),
        width=980,
    )
    return figure


def _kind(row: "pd.Series[Any]") -> str:
    if row["winner"]:
        return WINNER
    return FIRST if row["candidate"] == 0 and row["state"] == "finished" else str(row["state"])


def _lines(found: pd.DataFrame, kind: str, *, legend: bool) -> Iterator[go.Scatter]:
    """Yield the curves of a kind as one trace, with gaps in between, and their ends as another.

    There may be a thousand, and a browser is slow with so many traces.
    """
    x: list[float | None] = []
    y: list[float | None] = []
    text: list[str] = []
    ends: list[int] = []
    for number, curve in found.groupby("candidate"):
        x += [*map(float, curve["total"]), None]
        y += [*map(float, curve["value"]), None]
        text += [_about(cast("int", number), curve)] * len(curve) + [""]
        ends.append(len(x) - 2)
    style = STYLES[kind]
    same = {"legendgroup": kind, "line": style.line, "hovertemplate": HOVER, "name": kind}
    yield go.Scatter(x=x, y=y, text=text, mode="lines", showlegend=False, **same)
    apart = [place for end in ends for place in (end, end + 1)]  # the gap, so that nothing joins
    yield go.Scatter(
        x=[x[place] for place in apart], y=[y[place] for place in apart],
        text=[text[place] for place in apart], mode="lines+markers", showlegend=legend,
        marker={"color": style.line["color"], **style.end}, **same,
    )  # fmt: skip


def _about(key: int, curve: pd.DataFrame) -> str:
    """Return which candidate it is, on how many seeds, and what was chosen for it."""
    last = curve.iloc[-1]
    chosen = {name: last[name] for name in configs(curve) if pd.notna(last[name])}
    said = [f"{name.removeprefix('config.')} = {_short(value)}" for name, value in chosen.items()]
    head = f"candidate {key} ({last['state']}, {last['seeds']} seeds)"
    return "<br>".join([head, *said])


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
