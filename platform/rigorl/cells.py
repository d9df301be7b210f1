"""What stands in the cells of a page, and the tables around them."""

from collections.abc import Iterable, Sequence

from rigorl.analysis.statistics import Estimate


def estimate(estimate: Estimate) -> str:
    if estimate.point is None or estimate.low is None or estimate.high is None:
        return f"undefined ({estimate.seeds} seeds have it)"
    return f"{number(estimate.point)} [{number(estimate.low)}, {number(estimate.high)}]"


def number(number: float) -> str:
    """Three digits of a small number, none behind the point of a large one."""
    return f"{number:.0f}" if abs(number) >= 100 else f"{number:.3g}"  # noqa: PLR2004


def listed(title: str, lines: Iterable[str]) -> str:
    """Return a list with its title; nothing if it is empty."""
    items = [f"- {line}" for line in lines]
    return "\n".join([f"{title}:", *items]) if items else ""


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table whose columns stand under each other."""
    widths = [max(len(cell) for cell in column) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    )
