"""What a study will cost, and what of it fits where, as a page."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rigorl import report


def costs(found: Sequence[Any], wall_s: float, fits: Mapping[str, Any] | None = None) -> str:
    """Return what a study will cost, a row for each arm and phase, and what fits where."""
    rows = [
        [
            f"{c.arm}, {c.phase}",
            f"{c.trials:,}",
            f"{c.steps:,}",
            f"{c.exams:,}",
            f"{c.disk_bytes / 1e6:,.1f} MB",
            _span(c.core_s),
        ]
        for c in found
    ]
    sums = [sum(values) for values in zip(*(c[2:7] for c in found), strict=True)]
    trials, steps, exams, disk, core_s = sums
    total = [f"{trials:,}", f"{steps:,}", f"{exams:,}", f"{disk / 1e6:,.1f} MB", _span(core_s)]
    head = ["arm, phase", "trials", "steps", "exams", "disk", "time of one core"]
    lines = report.table(head, [*rows, ["all", *total]])
    where = "on this machine, without Ray's start"
    if fits:
        where = f"with {fits['at_once']} trials at once, on cores like this machine's"
    about = (
        f"About {_span(wall_s)} {where}. Pruning makes it less; policies that live longer than "
        "newborn ones make exams longer.\n" + "".join(map(_waits, found))
    )
    return f"{lines}\n\n{about if wall_s < math.inf else ''}{_fits(fits) if fits else ''}"


def _fits(fits: Mapping[str, Any]) -> str:
    """Return what the nodes of a cluster have, free of all, and how many trials they hold."""
    rows = [
        [
            node["name"],
            *(f"{node['free'][kind]:g}/{node['total'][kind]:g}" for kind in ("cpus", "gpus")),
            f"{node['free']['memory'] / 2**30:.1f}/{node['total']['memory'] / 2**30:.1f} GiB",
            ", ".join(
                [f"{n:g} {kind}" for kind, n in node["total"]["resources"].items()]
                + [f"{key}={value}" for key, value in node["total"]["labels"].items()]
            ),
        ]
        for node in fits["nodes"]
    ]
    lines = report.table(["node", "CPUs free", "GPUs free", "memory free", "also"], rows)
    if fits["never"]:
        others = "Nodes that an autoscaler may add are not counted."
        return f"{lines}\n\nNo trial ever fits on these nodes: {fits['never']}. {others}\n"
    why = f" ({fits['short_of']})" if fits["short_of"] else ""
    held = f"Trials at once: {fits['now']} now{why}; {fits['at_once']} when all is free."
    return f"\n{lines}\n\n{held}\n"


def _waits(cost: Any) -> str:
    """Say how long the learner of a trial waits for exams, and what the crew is asked for."""
    if not cost.crew_load and cost.wait_s < cost.trial_s / 10:
        return ""
    share = f"{cost.wait_s / cost.trial_s:.0%} of a trial's {cost.trial_s:,.1f} s"
    said = f"{cost.arm}, {cost.phase}: the learner waits for exams {share}"
    if cost.crew_load:
        said += f"; their crew is asked for {cost.crew_load:.0%} of what it can do"
    else:
        said += "; `exam: {crew: 1}` lets it go on meanwhile"
    return f"{said}\n"


def _span(seconds: float) -> str:
    minutes = seconds / 60
    return f"{minutes / 60:.1f} h" if minutes >= 60 else f"{minutes:.1f} min"  # noqa: PLR2004
