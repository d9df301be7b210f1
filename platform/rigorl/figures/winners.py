"""Tuned versus test: what winners earned on the seeds they were chosen by, and on others."""

from typing import cast

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.colors import qualitative

from rigorl.analysis.seeds import winners_curse
from rigorl.figures.tidy import CANDIDATE, finals

TWO = 2


def tuned_versus_test(frame: pd.DataFrame) -> go.Figure:
    """Return a point for each search that is over and tested: its winner's two means.

    Below the diagonal it promised too much. A diamond is where `seeds.winners_curse`, from how
    the candidates of that search scatter, expects the point; bars are one standard error.
    """
    points = winners(frame)
    figure = go.Figure()
    for number, (arm, mine) in enumerate(points.groupby("arm", sort=False)):
        color = qualitative.D3[number % len(qualitative.D3)]
        _add(figure, str(arm), color, mine)
    ends = points[["tuned", "test", "expected"]].to_numpy(dtype=np.float64)
    if len(points):
        low, high = float(np.nanmin(ends)), float(np.nanmax(ends))
        room = 0.08 * (high - low) or 1.0
        line = [low - room, high + room]
        figure.add_scatter(
            x=line, y=line, mode="lines", name="no gap", line={"color": "#888", "dash": "dot"}
        )
    figure.update_xaxes(title_text="winner's mean on tuning seeds", constrain="domain")
    figure.update_yaxes(title_text="winner's mean on test seeds", scaleanchor="x")
    figure.update_layout(
        title="Tuned versus test: what choosing by few seeds promised, and what came of it",
        template="plotly_white",
        height=640,
        width=980,
    )
    return figure


def winners(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each winner that was tested: arm, search, tuned, test, error, expected.

    `error` is the standard error of `test`; `expected` is NaN where one cannot know.
    """
    tuned, tests = finals(frame, "tune"), finals(frame, "test")
    rows = []
    for key, test in tests[tests["winner"]].groupby(CANDIDATE, sort=False):
        arm, search, winner = cast("tuple[str, int, int]", key)
        of_search = (tuned["arm"] == arm) & (tuned["search"] == search)
        mine = tuned[of_search & (tuned["state"] == "finished")]
        scores = mine.pivot_table(index="candidate", columns="seed", values="value")
        curse = winners_curse(scores.to_numpy(dtype=np.float64))
        test_S = test["value"].to_numpy(dtype=np.float64)
        n = len(test_S)
        rows.append(
            {
                "arm": arm,
                "search": int(search),
                "candidate": int(winner),
                "tuned": float(
                    mine[mine["candidate"] == winner]["value"].to_numpy(dtype=np.float64).mean()
                ),
                "test": float(test_S.mean()),
                "error": float(test_S.std(ddof=1)) / n**0.5 if n >= TWO else np.nan,
                "expected": float(curse.test),
                "seeds": n,
            }
        )
    columns = ["arm", "search", "candidate", "tuned", "test", "error", "expected", "seeds"]
    return pd.DataFrame(rows, columns=columns)


def _add(figure: go.Figure, arm: str, color: str, mine: pd.DataFrame) -> None:
    """Draw the searches of an arm, each joined with what was to be expected of it."""
    text = [
        f"{arm}, search {row.search}: candidate {row.candidate}, {row.seeds} test seeds"
        for row in mine.itertuples()
    ]
    for row in mine[mine["expected"].notna()].itertuples():
        figure.add_scatter(
            x=[row.tuned, row.tuned], y=[row.test, row.expected], mode="lines", hoverinfo="skip",
            line={"color": color, "width": 1, "dash": "dot"}, showlegend=False, legendgroup=arm,
        )  # fmt: skip
    figure.add_scatter(
        x=mine["tuned"], y=mine["expected"], mode="markers", text=text, legendgroup=arm,
        name=f"{arm}: expected, given luck",
        marker={"symbol": "diamond-open", "size": 11, "color": color},
        hovertemplate="%{text}<br>expected on test seeds: %{y:.4g}<extra></extra>",
    )  # fmt: skip
    figure.add_scatter(
        x=mine["tuned"], y=mine["test"], mode="markers", text=text, name=arm, legendgroup=arm,
        error_y={"type": "data", "array": mine["error"].fillna(0.0), "thickness": 1},
        marker={"size": 10, "color": color},
        hovertemplate="%{text}<br>tuned %{x:.4g}, test %{y:.4g}<extra></extra>",
    )  # fmt: skip
