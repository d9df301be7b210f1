"""What a sequence of tasks did to each arm, as tables, and as a card of three numbers."""

from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import NamedTuple

from rigorl.analysis.lessons import PAIRED, Lessons, Span, Told
from rigorl.analysis.statistics import Estimate
from rigorl.analysis.verdict import Verdict
from rigorl.cells import estimate, listed, number, table

MEASURES = {
    "acc": "mean score at the end (ACC)",
    "la": "mean score when just learned (LA)",
    "forg": "forgetting since (FORG)",
    "min_acc": "worst since, of earlier tasks (min-ACC)",
    "low_acc": "the same, lowest tenth for worst",
    "wc_acc": "worst case (WC-ACC)",
    "min_fall": "min-ACC below what was learned",
    "low_fall": "lowest tenth below what was learned",
    "wc_fall": "WC-ACC below what was learned",
    "gap_depth": "depth of the gap",
    "gap_area": "area of the gap, score x updates",
    "dip_area": "of it until 95 % is back, where it is",
    "recovery_updates": "updates until 95 % is back, where it is",
    "recovery_steps": "the same in environment steps",
    "recovery_evaluations": "the same in exams",
    "unrecovered": "earlier tasks where it is not",
    "aaa": "mean over time, of tasks seen (AAA)",
    "lca10": "first 10 exams of later tasks (LCA10)",
}
NAMES = {"acc": "ACC", "wc_acc": "WC-ACC", "min_acc": "min-ACC", "forg": "FORG"}
RAW = ("learned", "now", "lowest", "gap_depth", "gap_area", "recovery_updates")


class Card(NamedTuple):
    """What to know of an arm first. Each is a mean over seeds with its interval."""

    arm: str
    acc: str
    worst: str
    """min-ACC / WC-ACC"""
    recovery: str


def tables(verdict: Verdict) -> Iterator[str]:
    """Yield what there is to tell of arms that learned a sequence."""
    arms = {name: arm.lessons for name, arm in verdict.arms.items() if arm.lessons}
    shown = cards(verdict)
    if shown:
        head = ["in short", "ACC", "min-ACC / WC-ACC", "updates until 95 % is back"]
        yield table(head, [list(card) for card in shown])
    placebos = _placebos(arms)
    peers = {name: one for name, one in arms.items() if name not in placebos and one.measures}
    if peers:
        yield _measures(peers)
        yield _iqms(peers)
        yield from _floors(peers)
    yield listed("Windows", _windows({n: one for n, one in arms.items() if n not in placebos}))
    if arms:
        yield _raw(arms)
    yield _paired(verdict, placebos)
    yield _transfer(arms)


def cards(verdict: Verdict) -> list[Card]:
    """Return a card for each arm that has scores over a sequence; none for placebos."""
    arms = {name: arm.lessons for name, arm in verdict.arms.items() if arm.lessons}
    placebos = _placebos(arms)
    return [
        Card(name, _cell(m["acc"].mean), _worst(m), _recovery(m))
        for name, one in arms.items()
        if (m := one.measures) and name not in placebos
    ]


def html(verdict: Verdict) -> str:
    """Return the cards as HTML; nothing if there are none."""
    boxes = [
        f"<div><b>{escape(card.arm)}</b>"
        f"<p>{escape(card.acc)}<small>ACC: mean score at the end</small>"
        f"<p>{escape(card.worst)}<small>min-ACC / WC-ACC: the worst since learned</small>"
        f"<p>{escape(card.recovery)}<small>updates until 95 % is back</small></div>"
        for card in cards(verdict)
    ]
    style = (
        "<style>.cards{display:flex;flex-wrap:wrap;gap:1em}.cards div{border:1px solid #ccc;"
        "border-radius:6px;padding:.6em 1em;min-width:15em}.cards p{margin:.5em 0 0;font-size:115%}"
        ".cards small{display:block;color:#666;font-size:75%}</style>"
    )
    return f"{style}<div class=cards>{''.join(boxes)}</div>" if boxes else ""


def _worst(measures: Mapping[str, Told]) -> str:
    return f"{_cell(measures['min_acc'].mean)} / {_cell(measures['wc_acc'].mean)}"


def _recovery(measures: Mapping[str, Told]) -> str:
    """Return how long it took where it came back, and of how many tasks it did not."""
    lost = measures["unrecovered"].mean.point
    back = measures["recovery_updates"].mean
    if lost and back.point is None:
        return f"not back on {number(lost)} tasks"
    return _cell(back) + (f"; not back on {number(lost)} tasks" if lost else "")


def _measures(arms: Mapping[str, Lessons]) -> str:
    names = dict.fromkeys(name for one in arms.values() for name in one.measures)
    rows = [
        [_said(key), *(_cell(one.measures[key].mean) for one in arms.values())]
        for key in [*(n for n in MEASURES if n in names), *_windowed(names)]
    ]
    return table(["over the sequence of tasks, mean [95 %]", *arms], rows)


def _floors(arms: Mapping[str, Lessons]) -> Iterator[str]:
    """Yield, for each placebo, its measures beside those of its arm, and by how much these exceed.

    Levels are those of two policies, and so have no difference that were noise.
    """
    for name, one in arms.items():
        for placebo, floor in one.placebo.items():
            shown = [n for n in one.measures if n in {"min_acc", "wc_acc"} or n in floor.excess]
            rows = [
                [
                    _said(key),
                    *(_cell(told[key].mean) for told in (one.measures, floor.measures)),
                    _cell(floor.excess[key].mean) if key in floor.excess else "a level",
                ]
                for key in [*(n for n in MEASURES if n in shown), *_windowed(shown)]
            ]
            yield table(["noise floor", name, placebo, f"{name} - {placebo}"], rows)


def _windowed(names: Iterable[str]) -> list[str]:
    return [name for name in names if name not in MEASURES]


def _iqms(arms: Mapping[str, Lessons]) -> str:
    rows = [[name, *(_cell(one.measures[m].iqm) for m in PAIRED)] for name, one in arms.items()]
    return table(["IQM over seeds [95 %]", *(NAMES[m] for m in PAIRED)], rows)


def _windows(arms: Mapping[str, Lessons]) -> Iterator[str]:
    for name, one in arms.items():
        for window, span in one.windows.items():
            yield f"{name}: {_span(window, span)}"


def _span(window: str, span: Span) -> str:
    if span.median is None or span.low is None or span.high is None:
        return (
            f"no window of {window} exams was ever full, so WF{window} and WP{window} are over "
            f"all there are, {span.evaluations} at most"
        )
    return (
        f"a window of {window} exams took {number(span.median)} updates "
        f"(median; {number(span.low)} to {number(span.high)})"
    )


def _raw(arms: Mapping[str, Lessons]) -> str:
    """Return raw returns, a task at a time. Tasks that are being learned have no gap."""
    head = ["raw returns", "arm", "when learned", "at the end", "lowest since", "depth", "area"]
    rows = [
        [task, name, *(_cell(told[key].mean) if key in told else "-" for key in RAW)]
        for task in next(iter(arms.values())).raw
        for name, one in arms.items()
        if (told := one.raw[task])
    ]
    return table([*head, "updates until back"], rows)


def _paired(verdict: Verdict, placebos: set[str]) -> str:
    rows = []
    for pair in verdict.pairs:
        if pair.paired and not {pair.a, pair.b} & placebos:
            told = [pair.paired[m] for m in PAIRED]
            rows.append([f"{pair.a} - {pair.b}", "mean", *(_cell(one.mean) for one in told)])
            rows.append([f"{pair.a} - {pair.b}", "IQM", *(_cell(one.iqm) for one in told)])
    head = ["difference, seed by seed [95 %]", "of seeds", *(NAMES[m] for m in PAIRED)]
    return table(head, rows) if rows else ""


def _transfer(arms: Mapping[str, Lessons]) -> str:
    rows = []
    for name, one in arms.items():
        found = one.transfer
        if found is None:
            continue
        for kind, told in ("FT", found.forward), ("return", found.gain):
            if told:
                mean = _cell(found.mean.mean) if kind == "FT" and found.mean else "-"
                rows.append([name, kind, *(_by(told, task) for task in found.gain), mean])
    if not rows:
        return ""
    tasks = next(one.transfer.gain for one in arms.values() if one.transfer)
    head = ["learned in the sequence, not alone", "gain in", *tasks, "mean of later tasks"]
    return table(head, rows)


def _by(told: Mapping[str, Told], task: str) -> str:
    return _cell(told[task].mean) if task in told else "-"


def _placebos(arms: Mapping[str, Lessons]) -> set[str]:
    return {placebo for one in arms.values() for placebo in one.placebo}


def _cell(one: Estimate) -> str:
    return "-" if one.seeds == 0 else estimate(one)


def _said(name: str) -> str:
    if name in MEASURES:
        return MEASURES[name]
    kind = "drop" if name.startswith("wf") else "rise"
    return f"largest {kind} within {name[2:]} exams ({name[:2].upper()}{name[2:]})"
