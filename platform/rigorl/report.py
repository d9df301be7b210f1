"""Numbers -> pages: Markdown for people, JSON for machines, HTML with figures for a browser."""

import html as escape
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from rigorl import besieged, course
from rigorl.analysis.alarm import came_of, place
from rigorl.analysis.mishaps import Mishap
from rigorl.analysis.tuning import Front
from rigorl.analysis.verdict import ArmVerdict, Pair, Verdict
from rigorl.cells import estimate, listed, number, table
from rigorl.schedules import said

__all__ = [
    "as_json",
    "checklist",
    "estimate",
    "failures",
    "html",
    "markdown",
    "number",
    "table",
]

MANY = 40
"""Alarms that a page tells one by one."""


def markdown(verdict: Verdict) -> str:
    """Return the whole verdict, readable as text and as Markdown."""
    parts = [f"# {verdict.name}", f"> {verdict.question}", _arms(verdict)]
    parts += course.tables(verdict)
    parts += besieged.tables(verdict)
    parts += [listed("Compared", map(_pair, verdict.pairs))]
    if any(arm.tuning for arm in verdict.arms.values()):
        parts.append(_tunings(verdict))
    parts += _importances(verdict)
    chosen = {name: arm.config for name, arm in verdict.arms.items() if arm.config}
    parts.append(
        listed("Chosen on tuning seeds", [f"{n}: {_config(c)}" for n, c in chosen.items()])
    )
    parts.append(_alarms(verdict))
    parts.append(listed("Stopped by the alarm", map(_mishap, verdict.stopped)))
    parts.append(listed("Failed", failures(verdict)))
    parts.append(listed("Read with care", verdict.notes))
    return "\n\n".join(part for part in parts if part) + "\n"


def as_json(value: Any) -> str:
    """Return a verdict, or any other result, for machines: one object, keys in order."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def html(verdict: Verdict, figures: Iterable[str], more: Iterable[str] = ()) -> str:
    """Return a page that stands alone: a verdict, figures (HTML fragments), then *more* pages."""
    style = "body{font:15px/1.5 sans-serif;max-width:84em;margin:2em auto;padding:0 1em}"
    style += "pre{white-space:pre-wrap}pre.table{white-space:pre;overflow-x:auto}"
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        f"<title>{escape.escape(verdict.name)}</title><style>{style}</style>"
        f"{course.html(verdict)}"
        f"{_pre(markdown(verdict))}{''.join(figures)}{''.join(map(_pre, more))}</html>"
    )


def _pre(page: str) -> str:
    """Return a page for a browser: text is broken where it must be, and tables scroll."""
    parts = page.strip("\n").split("\n\n")
    kinds = ["<pre class=table>" if part.startswith("|") else "<pre>" for part in parts]
    told = zip(kinds, parts, strict=True)
    return "".join(f"{kind}{escape.escape(part)}</pre>" for kind, part in told)


def checklist(items: Sequence[Any]) -> str:
    """Return what a referee asks, and what a study says to it."""
    rows = [["yes" if i.kept else "NO", i.asked, i.said] for i in items]
    return f"Reproducibility:\n\n{table(['', 'asked', 'answer'], rows)}\n"


def failures(verdict: Verdict) -> list[str]:
    """Return a line for each trial that failed."""
    return [
        _mishap(m) + ("" if m.lasting else " (the next run tries it again)")
        for m in verdict.failures
    ]


def _mishap(mishap: Mishap) -> str:
    return f"{mishap.arm}, {mishap.phase} seed {mishap.seed}: {mishap.cause}"


def _alarms(verdict: Verdict) -> str:
    """Return when tasks fell that were learned before. The JSON has all, and all of each."""
    found = [one for arm in verdict.arms.values() for one in arm.alarms]
    rows = [
        [
            one.arm,
            str(one.seed),
            one.task,
            place(one.at),
            f"{one.drop:.3g}: {one.before:.3g} to {one.score:.3g}",
            came_of(one),
        ]
        for one in found[:MANY]
    ]
    if not rows:
        return ""
    page = table(["alarm", "seed", "task", "when", "fell by", "then"], rows)
    more = len(found) - len(rows)
    return page + (f"\n\nand {more} alarms more" if more else "")


def _arms(verdict: Verdict) -> str:
    tasks = list(verdict.scales)
    head = ["arm", "seeds", "score: IQM [95 %]", "mean [95 %]"]
    head += [f"return on {task}" for task in tasks]
    rows = [_arm(name, arm, tasks) for name, arm in verdict.arms.items()]
    return table(head, rows)


def _arm(name: str, arm: ArmVerdict, tasks: Sequence[str]) -> list[str]:
    seeds = len(arm.seeds) + len(arm.missing)
    row = [name, f"{len(arm.seeds)}/{seeds}"]
    row += [estimate(arm.score.iqm), estimate(arm.score.mean)] if arm.score else ["-", "-"]
    return row + [estimate(arm.returns[t]) if t in arm.returns else "-" for t in tasks]


def _tunings(verdict: Verdict) -> str:
    """Return what searches found: the best of many on its own seeds is not what it is worth."""
    found = {name: arm.tuning for name, arm in verdict.arms.items() if arm.tuning}
    rows = [
        [
            name,
            f"{t.finished} + {t.pruned} + {t.failed}",
            number(t.tuned),
            estimate(t.test) if t.test else "-",
            estimate(t.gap) if t.gap else "-",
            "-" if t.luck is None else number(t.luck),
            f"{t.steps:,} ({t.saved:,} saved)" if t.saved else f"{t.steps:,}",
        ]
        for name, t in found.items()
    ]
    head = ["search", "finished + pruned + failed", "best on tuning seeds", "on test seeds [95 %]"]
    page = table([*head, "gap [95 %]", "of it, luck", "steps"], rows)
    again = [
        [
            f"{name}, {r.searches} searches",
            estimate(r.tuned),
            estimate(r.test) if r.test else "-",
            estimate(r.gap) if r.gap else "-",
            ", ".join("-" if test is None else number(test) for test in r.tests),
        ]
        for name, arm in verdict.arms.items()
        if (r := arm.repeats)
    ]
    fronts = [_front(name, t.front) for name, t in found.items() if t.front]
    if not again:
        return "\n\n".join([page, *fronts])
    head = [
        "mean over searches",
        "best on tuning seeds",
        "on test seeds",
        "gap",
        "each on test seeds",
    ]
    return "\n\n".join([page, table(head, again), *fronts])


def _front(name: str, front: Front) -> str:
    """Return what a search had to choose from, and what its choice is worth on test seeds."""
    rows = [
        [
            f"{name} {c.number}{', chosen' if c.chosen else ''}",
            *map(number, c.tuned.values()),
            _config(c.config),
        ]
        for c in front.candidates
    ]
    if front.test:
        rows.append(["chosen, on test seeds", *map(number, front.test.values()), ""])
    names = [what.replace("_", " ") for what in front.candidates[0].tuned]
    return table(["nobody beats it", *names, "candidate"], rows)


def _importances(verdict: Verdict) -> Iterable[str]:
    """Yield a table of shares, where an arm has any, and what is not said."""
    found = {name: arm.importance for name, arm in verdict.arms.items() if arm.importance}
    methods = list(dict.fromkeys(m for one in found.values() for m in one.shares))
    rows = [
        [name, dimension, *(_share(one.shares.get(m, {}).get(dimension)) for m in methods)]
        for name, one in found.items()
        for dimension in dict.fromkeys(d for shares in one.shares.values() for d in shares)
    ]
    if rows:
        yield table(["search", "what mattered", *methods], rows)
    yield listed("Importance", [f"{n}: {one.note}" for n, one in found.items() if one.note])


def _share(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _pair(pair: Pair) -> str:
    better = f"P({pair.a} > {pair.b}) = {estimate(pair.improvement)}"
    if pair.difference is None:
        return better
    return f"{better}; IQM({pair.a}) - IQM({pair.b}) = {estimate(pair.difference)}"


def _config(config: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} = {value}" for key, value in said(config).items())
