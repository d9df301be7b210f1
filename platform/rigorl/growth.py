"""A study may grow: more arms, more seeds, more candidates. Pure.

What was played stays what it was, so that a verdict can be extended and never bent. Any other
edit of a spec makes another study.
"""

from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import msgspec

from rigorl.searches import POPULATIONS
from rigorl.spec import Experiment

NOTHING = object()
LONGEST = 60


def differences(before: Experiment, now: Experiment) -> list[str]:
    """Return what of *before* is not kept in *now*, with its address, as a person would say it."""
    old, new = msgspec.to_builtins(before), msgspec.to_builtins(now)
    for where in ("exam", "placement"):  # of no consequence to what comes out
        new[where] = old[where]
    new["transfer"] = old["transfer"] and new["transfer"]  # to ask for it only adds trials
    if not any(spec.alarm and spec.alarm.acts for spec in (before, now)):
        new["alarm"] = old["alarm"]
    for name, arm in old["arms"].items():
        grown = new["arms"].get(name)
        if arm["search"] and grown and grown["search"]:
            counts = ["candidates", "repeats"]  # more are no less
            if grown["search"]["sampler"] in POPULATIONS:
                counts.remove("candidates")  # but who goes on as whom rests on all of them
            for count in counts:
                grown["search"][count] = min(arm["search"][count], grown["search"][count])
    new["arms"] = {name: arm for name, arm in new["arms"].items() if name in old["arms"]}
    for phase, seeds in old["seeds"].items():
        if set(seeds) <= set(new["seeds"][phase]):
            new["seeds"][phase] = seeds
    return list(_differ(old, new, "$"))


def _differ(old: Any, new: Any, at: str) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in dict.fromkeys([*old, *new]):
            yield from _differ(old.get(key, NOTHING), new.get(key, NOTHING), f"{at}.{key}")
    elif isinstance(old, list | tuple) and isinstance(new, list | tuple) and len(old) == len(new):
        for i, (was, is_) in enumerate(zip(old, new, strict=True)):
            yield from _differ(was, is_, f"{at}[{i}]")
    elif isinstance(old, str) and isinstance(new, str) and "\n" in old + new and old != new:
        lines = zip_longest(old.splitlines(), new.splitlines(), fillvalue=NOTHING)
        first, (was, is_) = next(
            ((n, pair) for n, pair in enumerate(lines, 1) if pair[0] != pair[1]), (1, (old, new))
        )
        yield f"line {first} of `{at}` was {_shown(was)} and is {_shown(is_)}"
    elif old != new:
        yield f"`{at}` was {_shown(old)} and is {_shown(new)}"


def _shown(value: Any) -> str:
    if value is NOTHING:
        return "not there"
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
