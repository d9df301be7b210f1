"""Accounts of what goes on: how far studies are, what keeps them, what was died of, settings."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from rigorl import report
from rigorl.analysis.alarm import words

STATES = {
    "died": "its driver died; the same command goes on",
    "stopped": "stopped; the same command goes on",
    "": "not known",
}


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
                "-" if c["score"] is None else report.number(c["score"]),
            ]
            for what, c in known["arms"].items()
        ]
        head = ["arm, phase", "finished", "running", "failed", "steps", "score"]
        raised = "".join(f"- {words(one)}\n" for one in known.get("alarms", ()))
        told = f"\nAlarms:\n{raised}" if raised else ""
        state = STATES.get(known["state"], known["state"])
        behind = known["mlflow_behind"]
        lag = f"\nMLflow is {behind:,} reports behind.\n" if behind else ""
        pages.append(f"# {study}: {state}\n\n{report.table(head, rows)}\n{told}{lag}")
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
    return f"{report.table(head, rows)}\n\n{faults} faults injected: {said}\n"


def settings(name: str, about: Mapping[str, Any]) -> str:
    """Return an algorithm and its settings."""
    lines = []
    for key, value in about["settings"].items():
        lines.append(f"    {key}: {_written(value)}")
        others = [one for one in about.get("choices", {}).get(key, []) if one != value]
        lines += [f"        or {_written(one)}" for one in others]
    return "\n".join([f"{name}: {about['about']}", *lines])


def _written(value: Any) -> str:
    """Return *value* as one would write it in YAML, if it is a table."""
    if not isinstance(value, Mapping):
        return str(value)
    return f"{{{', '.join(f'{key}: {_written(part)}' for key, part in value.items())}}}"
