"""How speed is measured, the same for every peer. Needs nothing but Python."""

import time
from collections.abc import Iterable


def steady(progress: Iterable[int], seconds: float) -> dict[str, float]:
    """Return environment steps a second from *progress*: the steps so far, whenever a rollout
    is learned from. The first ends the warm-up, the first after *seconds* ends it all.
    """
    steps = iter(progress)
    first, start, spent = next(steps), time.perf_counter(), 0.0
    while spent < seconds:
        step = next(steps)
        spent = time.perf_counter() - start
    return {"played": step - first, "seconds": spent, "rate": (step - first) / spent}
