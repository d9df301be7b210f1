"""Numbers -> pages: Markdown for people, JSON for machines, HTML with figures for a browser."""

import html as escape
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from rigorl.analysis.statistics import Estimate
from rigorl.analysis.verdict import ArmVerdict, Pair, Verdict
from rigorl.schedules import said

MEASURES = {
    "acc": "mean score at the end (ACC)",
    "la": "mean score when just learned (LA)",
    "forg": "forgetting since (FORG)",
    "min_acc": "worst since, mean over earlier tasks (min-ACC)",
    "wc_acc": "worst case (WC-ACC)",
    "gap_depth": "depth of the gap",
    "recovery_updates": "updates until 95 % is back, where it came back",
    "unrecovered": "earlier tasks where it did not",
}
STATES = {
    "died": "its driver died; the same command goes on",
    "stopped": "stopped; the same command goes on",
    "": "not known",
}


def markdown(verdict: Verdict) -> str:
    """Return the whole verdict, readable as text and as Markdown."""
    parts = [f"# {verdict.name}", f"> {verdict.question}", _arms(verdict)]
    if any(arm.continual for arm in verdict.arms.values()):
        parts.append(_continual(verdict))
    parts += [_list("Compared", map(_pair, verdict.pairs))]
    if any(arm.tuning for arm in verdict.arms.values()):
        parts.append(_tunings(verdict))
    chosen = {name: arm.config for name, arm in verdict.arms.items() if arm.config}
    parts.append(_list("Chosen on tuning seeds", [f"{n}: {_config(c)}" for n, c in chosen.items()]))
    parts.append(_list("Failed", failures(verdict)))
    parts.append(_list("Read with care", verdict.notes))
    return "\n\n".join(part for part in parts if part) + "\n"


def as_json(value: Any) -> str:
    """Return a verdict, or any other result, for machines: one object, keys in order."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def html(verdict: Verdict, figures: Iterable[str], items: Sequence[Any] = ()) -> str:
    """Return a page that stands alone: figures (HTML fragments) and a checklist under a verdict."""
    style = "body{font:15px/1.5 sans-serif;max-width:70em;margin:2em auto;padding:0 1em}"
    style += "pre{white-space:pre-wrap}"
    return (
        "<!doctype html><html lang=en><meta charset=utf-8>"
        f"<title>{escape.escape(verdict.name)}</title><style>{style}</style>"
        f"<pre>{escape.escape(markdown(verdict))}</pre>{''.join(figures)}"
        f"{f'<pre>{escape.escape(checklist(items))}</pre>' if items else ''}</html>"
    )


def checklist(items: Sequence[Any]) -> str:
    """Return what a referee asks, and what a study says to it."""
    rows = [["yes" if i.kept else "NO", i.asked, i.said] for i in items]
    return f"Reproducibility:\n\n{table(['', 'asked', 'answer'], rows)}\n"


def failures(verdict: Verdict) -> list[str]:
    """Return a line for each trial that failed."""
    return [
        f"{m.arm}, {m.phase} seed {m.seed}: {m.cause}"
        + ("" if m.lasting else " (the next run tries it again)")
        for m in verdict.failures
    ]


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


def _continual(verdict: Verdict) -> str:
    told = {name: arm.continual for name, arm in verdict.arms.items() if arm.continual}
    names = next(iter(told.values()))
    rows = [
        [
            MEASURES.get(name, _window(name)),
            *(estimate(found[name]) for found in told.values()),
        ]
        for name in names
    ]
    return table(["over the sequence of tasks", *told], rows)


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
    return table([*head, "gap [95 %]", "of it, luck", "steps"], rows)


def _window(name: str) -> str:
    kind = "drop" if name.startswith("wf") else "rise"
    return f"largest {kind} within {name[2:]} exams ({name[:2].upper()}{name[2:]})"


def _pair(pair: Pair) -> str:
    better = f"P({pair.a} > {pair.b}) = {estimate(pair.improvement)}"
    if pair.difference is None:
        return better
    return f"{better}; IQM({pair.a}) - IQM({pair.b}) = {estimate(pair.difference)}"


def estimate(estimate: Estimate) -> str:
    if estimate.point is None or estimate.low is None or estimate.high is None:
        return f"undefined ({estimate.seeds} seeds have it)"
    return f"{number(estimate.point)} [{number(estimate.low)}, {number(estimate.high)}]"


def number(number: float) -> str:
    """Three digits of a small number, none behind the point of a large one."""
    return f"{number:.0f}" if abs(number) >= 100 else f"{number:.3g}"  # noqa: PLR2004


def _config(config: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} = {value}" for key, value in said(config).items())


def _list(title: str, lines: Iterable[str]) -> str:
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


def status(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return how far studies are: study -> its state, and "arm, phase" -> counts."""
    pages = []
    for study, known in found.items():
        rows = [
            [
                what,
                f"{c['finished']}/{c['planned']}",
                str(c["running"]),
                str(c["failed"]),
                f"{c['share']:.0%}",
                "-" if c["score"] is None else number(c["score"]),
            ]
            for what, c in known["arms"].items()
        ]
        head = ["arm, phase", "finished", "running", "failed", "steps", "score"]
        state = STATES.get(known["state"], known["state"])
        behind = known["mlflow_behind"]
        lag = f"\nMLflow is {behind:,} reports behind.\n" if behind else ""
        pages.append(f"# {study}: {state}\n\n{table(head, rows)}\n{lag}")
    return "\n".join(pages) or "nothing was run yet\n"


def whys(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Return what keeps trials: study -> what keeps it as a whole, and the trials."""
    pages = []
    for study, known in found.items():
        alike: dict[Any, list[Any]] = {}
        for why in known["trials"]:
            seed = None if why.seed is None else 0
            same = msgspec.structs.replace(why, seed=seed, trials=0)
            alike.setdefault(same, []).append(why)
        lines = [line for group in alike.values() for line in _why(group)]
        kept = f"{known['driver']}\n\n" if known["driver"] else ""
        pages.append(f"Why {study} is where it is:\n\n{kept}" + ("\n".join(lines) or _ALL_WELL))
    return "\n\n".join(pages) + "\n"


_ALL_WELL = "nothing waits, and nothing was in trouble"


def _why(alike: Sequence[Any]) -> Iterable[str]:
    """Tell of trials that differ in nothing but the seed; each trouble on a line of its own."""
    one = alike[0]
    seeds = ", ".join(str(why.seed) for why in alike)
    who = f"{one.trials} more trials" if one.seed is None else f"seed {seeds}"
    tries = f", attempt {one.attempts} on {one.host}" if one.attempts > 1 else ""
    yield f"- {one.arm}, {one.phase}, {who}: {one.now}{tries}: {one.why}"
    for trouble, times in Counter(one.troubles).items():
        yield f"  - before, {f'{times} times' if times > 1 else 'once'}: {trouble}"


def resumed(kept: int, continued: Sequence[str], anew: Sequence[str], to_come: int) -> str:
    """Return what becomes of a study that is taken up again, in trials."""
    lines = [
        f"Kept as they are: {kept} finished trials",
        f"To go on from their newest checkpoint that is whole: {len(continued)}",
        *(f"- {line}" for line in continued),
        f"To begin anew, for they have no checkpoint: {len(anew)}",
        *(f"- {line}" for line in anew),
        f"Not begun yet: at most {to_come}",
    ]
    return "\n".join(lines) + "\n"


def crashes(results: Sequence[Any]) -> str:
    """Return the table of crashes: where who died how often, and what became of it."""
    rows = [
        [
            result.case.point,
            result.case.victim,
            str(result.faults),
            str(result.lost),
            str(result.doubled),
            str(result.diverged),
            f"{result.seconds:.0f} s",
            "ok" if result.ok else "FAIL",
        ]
        for result in results
    ]
    head = ["killed at", "who", "times", "lost", "doubled", "diverged", "took", ""]
    faults = sum(result.faults for result in results)
    lost, doubled, diverged = (
        sum(getattr(result, wrong) for result in results)
        for wrong in ("lost", "doubled", "diverged")
    )
    said = f"{lost} lost, {doubled} doubled, {diverged} diverged"
    return f"{table(head, rows)}\n\n{faults} faults injected: {said}\n"


def settings(name: str, about: Mapping[str, Any]) -> str:
    """Return an algorithm and its settings."""
    lines = [f"    {key}: {value}" for key, value in about["settings"].items()]
    return "\n".join([f"{name}: {about['about']}", *lines])
