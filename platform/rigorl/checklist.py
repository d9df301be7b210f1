"""The reproducibility checklist for tuned reinforcement learning, filled in by the program.

The sixteen items are those of Eimer, Lindauer and Raileanu, "Hyperparameters in Reinforcement
Learning and How To Tune Them" (ICML 2023), in our words.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any

from msgspec import Struct

from rigorl.analysis.verdict import Verdict
from rigorl.schedules import said
from rigorl.searches import Prune, Search
from rigorl.space import Choice, Over
from rigorl.spec import Experiment


class Item(Struct, frozen=True):
    """What a referee asks, what this study says to it, and whether that is as it should be."""

    asked: str
    said: str
    kept: bool = True


def checklist(
    spec: Experiment, verdict: Verdict, software: Mapping[str, str], hosts: Sequence[str]
) -> list[Item]:
    """Return the sixteen items. *software* names versions, *hosts* says who played."""
    searches = {name: arm.search for name, arm in spec.arms.items() if arm.search}
    untuned = sorted(spec.arms.keys() - searches.keys())
    code = software.get("git", "")
    return [
        Item(
            "training, tuning and reporting are kept apart",
            f"tuned on seeds {_list(spec.seeds.tune)}, reported on {_list(spec.seeds.test)}; the "
            "two may not share one"
            if searches
            else "nothing is tuned",
        ),
        Item("package and method", "; ".join(_methods(searches, software)) or "nothing is tuned"),
        Item("space, with ranges", "; ".join(_spaces(searches)) or "nothing is tuned"),
        _shared(spec, searches),
        Item(
            "what is optimised",
            "the mean score over the tasks begun, at the last exam, as a mean over tuning seeds: "
            f"{spec.budget.exam_episodes} episodes an exam; the largest is best"
            + "".join(_others(searches)),
        ),
        _budget(spec, searches),
        Item(
            "hardware is comparable where time is counted",
            "budgets are counted in environment steps; time decides nothing",
        ),
        Item(
            "all that is reported was tuned in this way",
            f"not tuned: {', '.join(untuned)}" if untuned else "every arm was tuned",
            kept=not untuned,
        ),
        _seeds("tuning seeds", spec.seeds.tune),
        _seeds("test seeds", spec.seeds.test),
        _results(verdict),
        Item("what was chosen", "; ".join(_chosen(verdict, searches)) or "nothing is tuned"),
        Item("code", f"commit {code}" if code else "not in a git checkout", _is_clean(code)),
        Item(
            "code of the tuning",
            "the same, and this spec; `rigorl export` writes every report",
            _is_clean(code),
        ),
        Item("software", ", ".join(f"{name} {version}" for name, version in software.items())),
        Item("hardware", "; ".join(hosts) or "nothing was played yet", bool(hosts)),
    ]


def _methods(searches: Mapping[str, Search], software: Mapping[str, str]) -> Iterator[str]:
    version = f"rigorl {software.get('rigorl', '')} with Optuna {software.get('optuna', '')}"
    for arm, search in searches.items():
        last = search.seed + search.repeats - 1
        seeds = f"{search.seed}" if search.repeats == 1 else f"{search.seed} to {last}"
        how = f"generations of {search.generation}{_early(search.prune)}"
        if search.is_population:
            how = (
                f"a population of {search.candidates} that changes every {search.every or 1} exams"
            )
        yield f"{arm}: {search.sampler} of {version}, search seed {seeds}, {how}"


def _early(prune: Prune | None) -> str:
    match prune:
        case None:
            return ""
        case Prune(kind="asha" | "hyperband" as kind, eta=eta):
            return f", pruned by {kind}: one in {eta} goes on"
        case Prune(kind="racing", p=p):
            return f", pruned by racing, p {p:g}"
        case Prune(kind=kind, keep=keep):
            return f", pruned by {kind}: {keep:g} go on"


def _others(searches: Mapping[str, Search]) -> Iterator[str]:
    """Tell of searches that maximise other things than the score."""
    for arm, search in searches.items():
        if search.maximise != ("score",):
            told = [f"; {arm}: {', '.join(search.maximise)}"]
            told += [f"above {list(search.reference_point)}"] if search.reference_point else []
            told += [f"of the front, {search.choose}"] if len(search.maximise) > 1 else []
            yield ", ".join(told)


def _spaces(searches: Mapping[str, Search]) -> Iterator[str]:
    for arm, search in searches.items():
        parts = [f"{name} {_range(over)}" for name, over in search.space.items()]
        yield f"{arm}: {', '.join([*parts, *search.constraints])}"


def _range(over: Over) -> str:
    if isinstance(over, Choice):
        return "{" + ", ".join(map(str, over.of)) + "}"
    log = " log" if over.log else ""
    return f"[{over.low:g}, {over.high:g}]{log}"


def _shared(spec: Experiment, searches: Mapping[str, Search]) -> Item:
    """Compare spaces of arms that play the same algorithm."""
    differ = [
        f"{name} of {a} and {b}"
        for a, b in combinations(searches, 2)
        if spec.arms[a].agent.name == spec.arms[b].agent.name
        for name in searches[a].space
        if name in searches[b].space and searches[a].space[name] != searches[b].space[name]
    ]
    said = f"differ: {', '.join(differ)}" if differ else "the same wherever an agent is the same"
    return Item("shared settings have one space", said, kept=not differ)


def _budget(spec: Experiment, searches: Mapping[str, Search]) -> Item:
    each = len(spec.tasks) * spec.budget.steps * len(spec.seeds.tune)
    costs = {arm: search.candidates * each for arm, search in searches.items()}
    parts = [
        f"{arm}: {searches[arm].candidates} candidates, {n:,} steps" for arm, n in costs.items()
    ]
    equal = len(set(costs.values())) <= 1
    said = "; ".join(parts) + ("" if equal else "; these differ")
    return Item("budget, the same for all", said or "nothing is tuned", kept=equal)


def _seeds(asked: str, seeds: Sequence[int]) -> Item:
    return Item(asked, f"{len(seeds)}: {_list(seeds)}" if seeds else "none")


def _list(seeds: Sequence[int]) -> str:
    return ", ".join(map(str, seeds))


def _results(verdict: Verdict) -> Item:
    missing = [f"{name} {_list(arm.missing)}" for name, arm in verdict.arms.items() if arm.missing]
    said = "yes, by construction: no other seed is in the verdict"
    if missing:
        said += f"; missing: {'; '.join(missing)}"
    return Item("all results are on test seeds", said, kept=not missing)


def _chosen(verdict: Verdict, searches: Mapping[str, Search]) -> Iterator[str]:
    for arm in searches:
        config: Mapping[str, Any] | None = verdict.arms[arm].config
        told = (
            "no winner yet"
            if config is None
            else ", ".join(f"{name} {value}" for name, value in said(config).items())
        )
        yield f"{arm}: {told}"


def _is_clean(commit: str) -> bool:
    return bool(commit) and not commit.endswith("-dirty")
