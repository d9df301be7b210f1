"""Lines with bands as an SVG: no more than the learning curves of `throughput.py` need."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT, LEFT, TOP, GAP = 360, 260, 70, 40, 80
COLOURS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd")


class Line(NamedTuple):
    """A line of N points, and the band around it."""

    name: str
    x_N: NDArray[Any]
    y_N: NDArray[Any]
    low_N: NDArray[Any]
    high_N: NDArray[Any]


def draw(panels: Mapping[str, Sequence[Line]], y_label: str) -> str:
    """Return an SVG with a panel for each entry, its key below it, all on one y axis."""
    everything = np.concatenate(
        [np.concatenate([line.low_N, line.high_N]) for lines in panels.values() for line in lines]
    )
    y_range = float(everything.min()), float(everything.max())
    width = LEFT + len(panels) * (WIDTH + GAP)
    body = [
        part
        for number, (x_label, lines) in enumerate(panels.items())
        for part in _panel(LEFT + number * (WIDTH + GAP), x_label, lines, y_range)
    ]
    title = f'<text x="{LEFT}" y="20" font-size="14">{y_label}</text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {TOP + HEIGHT + 60}" '
        f'font-family="sans-serif" font-size="11">\n<rect width="100%" height="100%" '
        f'fill="white"/>\n{title}\n' + "\n".join(body) + "\n</svg>\n"
    )


def _panel(
    left: int, x_label: str, lines: Sequence[Line], y_range: tuple[float, float]
) -> list[str]:
    x_max = max(float(line.x_N[-1]) for line in lines)
    low, high = y_range

    def place(x_N: NDArray[Any], y_N: NDArray[Any]) -> str:
        across = left + x_N / x_max * WIDTH
        down = TOP + HEIGHT - (y_N - low) / ((high - low) or 1) * HEIGHT
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(across, down, strict=True))

    parts = [f'<rect x="{left}" y="{TOP}" width="{WIDTH}" height="{HEIGHT}" fill="#f7f7f7"/>']
    for share in np.linspace(0, 1, 5):
        x, y = left + share * WIDTH, TOP + HEIGHT * (1 - share)
        parts.append(_text(x, TOP + HEIGHT + 15, f"{share * x_max:,.0f}", "middle"))
        parts.append(_text(left - 6, y + 4, f"{low + share * (high - low):,.0f}", "end"))
    for number, (line, colour) in enumerate(zip(lines, COLOURS, strict=False)):
        there, back = place(line.x_N, line.low_N), place(line.x_N[::-1], line.high_N[::-1])
        stroke = f'fill="none" stroke="{colour}" stroke-width="2"'
        parts.append(f'<polygon points="{there} {back}" fill="{colour}" opacity="0.2"/>')
        parts.append(f'<polyline points="{place(line.x_N, line.y_N)}" {stroke}/>')
        parts.append(_text(left + 10, TOP + 16 + 15 * number, line.name, "start", colour))
    return [*parts, _text(left + WIDTH / 2, TOP + HEIGHT + 35, x_label, "middle")]


def _text(x: float, y: float, words: str, anchor: str, colour: str = "black") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" fill="{colour}">{words}</text>'
