"""Which dimensions mattered, as bars."""

import plotly.graph_objects as go
from plotly.colors import qualitative

from rigorl.analysis.importance import Importance


def importance_bars(found: Importance, arm: str) -> go.Figure:
    """Return a bar a method for each dimension, that of the largest share on top.

    A method that says nothing of a dimension has no bar there.
    """
    names = {name for shares in found.shares.values() for name in shares}
    most = {n: max(shares.get(n, 0.0) for shares in found.shares.values()) for n in names}
    order = sorted(names, key=lambda name: (most[name], name))
    figure = go.Figure()
    for number, (method, shares) in enumerate(found.shares.items()):
        told = [name for name in order if name in shares]
        figure.add_bar(
            x=[shares[name] for name in told], y=told, name=method, orientation="h",
            marker={"color": qualitative.D3[number]},
            text=[f"{shares[name]:.0%}" for name in told], textposition="outside",
            hovertemplate="%{y}: %{x:.1%}<extra>" + method + "</extra>",
        )  # fmt: skip
    figure.update_xaxes(title_text="share", tickformat=".0%", range=[0, 1.1])
    figure.update_yaxes(categoryorder="array", categoryarray=order, automargin=True)
    figure.update_yaxes(ticks="outside", ticklen=6, tickcolor="white")
    figure.update_layout(
        title=f"What mattered to {arm}, by {found.candidates} configurations that finished",
        template="plotly_white",
        height=160 + 56 * len(order),
        width=980,
        legend={"traceorder": "reversed"},
    )
    return figure
