"""What several numbers are worth together: fronts, hypervolumes, and one point of a front.

All is maximised. Points are rows, point x objective. Sums are rounded once and points are taken
in an order of their own, so the same points give the same number to the bit, wherever they are
counted and in whatever order they come.
"""

import math
from collections.abc import Sequence

Point = Sequence[float]


def dominates(a: Point, b: Point) -> bool:
    """Say whether *a* is nowhere worse than *b*, and somewhere better."""
    return tuple(a) != tuple(b) and all(x >= y for x, y in zip(a, b, strict=True))


def front(points: Sequence[Point]) -> list[int]:
    """Return the places of the points that no other one dominates; equals are all there."""
    return [
        place for place, mine in enumerate(points) if not any(dominates(it, mine) for it in points)
    ]


def hypervolume(points: Sequence[Point], reference: Point, ideal: Point = ()) -> float:
    """Return the volume of what lies above *reference* and below a point, exactly.

    With *ideal*, as a share of the box between the two. A point that is not above *reference*
    in every objective adds nothing.
    """
    above = {
        tuple(x - low for x, low in zip(point, reference, strict=True))
        for point in points
        if all(x > low for x, low in zip(point, reference, strict=True))
    }
    volume = _volume(sorted(above, reverse=True))
    box = (high - low for high, low in zip(ideal, reference, strict=True)) if ideal else ()
    return volume / math.prod(box)


def _volume(points: Sequence[tuple[float, ...]]) -> float:
    """Return the volume below *points*, the largest in the first objective first.

    They are cut into slices between one value of that objective and the next: a slice is as
    thick as that, and as large as what all points beyond it cover in the other objectives.
    """
    if not points:
        return 0.0
    if len(points[0]) == 1:
        return points[0][0]
    slices, beyond, covered = [], set[tuple[float, ...]](), 0.0
    for here, below in zip(points, [*(p[0] for p in points[1:]), 0.0], strict=True):
        beyond.add(here[1:])
        if here[0] > below:
            covered = _volume(sorted(beyond, reverse=True))
            slices.append((here[0] - below) * covered)
    return math.fsum(slices)


def knee(points: Sequence[Point]) -> int:
    """Return the place of the point whose worst objective is best, each scaled to the front.

    On the front the worst of each objective is 0 and the best is 1; of equals the one with the
    larger sum, then the first.
    """
    places = front(points)
    columns = [_scaled(column) for column in zip(*(points[place] for place in places), strict=True)]
    rows = list(zip(*columns, strict=True))
    best = max(range(len(rows)), key=lambda row: (min(rows[row]), math.fsum(rows[row]), -row))
    return places[best]


def _scaled(column: Sequence[float]) -> list[float]:
    low, high = min(column), max(column)
    return [(x - low) / (high - low) if high > low else 1.0 for x in column]


def weighted(points: Sequence[Point], weights: Point) -> int:
    """Return the place of the point with the largest weighted sum, the first of equals."""
    sums = [math.fsum(w * x for w, x in zip(weights, point, strict=True)) for point in points]
    return sums.index(max(sums))
