"""Optuna: which dimensions of a search mattered.

Two answers to two questions. PED-ANOVA (Watanabe et al., IJCAI 2023; with conditions, 2026): in
which dimensions do the best candidates differ from all that finished? fANOVA (Hutter et al., ICML
2014): how much of what a forest has learned of their values is the main effect of a dimension?
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import optuna
from optuna.distributions import BaseDistribution, FloatDistribution
from optuna.importance import FanovaImportanceEvaluator, PedAnovaImportanceEvaluator
from optuna.trial import create_trial

from rigorl.analysis.importance import Importance
from rigorl.outside.optuna_ask import distributions
from rigorl.search import Outcome
from rigorl.space import Choice, Over, Space, fits

METHODS = ("PED-ANOVA", "fANOVA")
LEAST = 8
"""Of fewer candidates nothing is said: it would be an accident."""
TOP, BEST = 0.1, 5
"""PED-ANOVA looks at this share of candidates, and at so many where there are few, for it takes
that many to be steady; but never at more than half of them."""
TREES, ENOUGH, FITTED = 64, 8, 6_400
"""fANOVA's forest: so many trees, and fewer, down to enough, once all of them together would hold
more than so many candidates: a minute for a thousand candidates becomes seconds."""
DIGITS = 4
"""More would be noise, and the last ones differ from processor to processor."""


class _Seen(NamedTuple):
    config: Mapping[str, Any]
    value: float


def importance(space: Space, outcomes: Sequence[Outcome]) -> Importance:
    """Return the share of each dimension of *space*, by what *outcomes* that finished are worth.

    A configuration counts once, however many searches tried it.
    """
    seen = _seen(space, outcomes)
    if len(seen) < LEAST:
        short = f"{len(seen)} configurations finished, and it takes {LEAST} to say what mattered"
        return Importance(candidates=len(seen), note=short)
    if len({one.value for one in seen}) == 1:
        equal = f"all {len(seen)} configurations that finished are worth the same: nothing mattered"
        return Importance(candidates=len(seen), note=equal)
    told = [
        name for name in space if len({str(o.config[name]) for o in seen if name in o.config}) > 1
    ]
    always = [name for name in told if all(name in one.config for one in seen)]
    shares = {"PED-ANOVA": _ped_anova(space, told, seen), "fANOVA": _fanova(space, always, seen)}
    return Importance(
        candidates=len(seen),
        shares={method: found for method, found in shares.items() if found},
        note="; ".join(_unsaid(space, told, always)),
    )


def _unsaid(space: Space, told: Sequence[str], always: Sequence[str]) -> list[str]:
    fixed = [name for name in space if name not in told]
    hidden = [name for name in told if name not in always]
    notes = []
    if fixed:
        notes.append(
            f"nothing is said of {', '.join(fixed)}: candidates that finished are alike there"
        )
    if hidden:
        notes.append(
            f"fANOVA says nothing of {', '.join(hidden)}, which not all candidates have; it takes "
            "their effect for one of what they hang on, or for noise"
        )
    return notes


def _seen(space: Space, outcomes: Sequence[Outcome]) -> list[_Seen]:
    """Return what finished, each configuration once. The arm as it comes may be off the space."""
    seen = {
        repr(sorted(outcome.config.items())): _Seen(outcome.config, outcome.value)
        for outcome in outcomes
        if outcome.state == "finished"
        and math.isfinite(outcome.value)
        and fits(space, outcome.config)
    }
    return list(seen.values())


def _ped_anova(space: Space, names: Sequence[str], seen: Sequence[_Seen]) -> dict[str, float]:
    """Optuna takes a condition for what it is: a dimension counts as far as it is there.

    The best must be fewer than all, so of many that are worst alike none is among them.
    """
    if not names:
        return {}
    worst = min(one.value for one in seen)
    better = sum(one.value > worst for one in seen)
    best = min(better, max(math.ceil(TOP * len(seen)), min(BEST, len(seen) // 2)))
    evaluator = PedAnovaImportanceEvaluator(target_quantile=(best - 0.5) / len(seen))
    return _shares(evaluator, distributions(space), names, seen)


def _fanova(space: Space, names: Sequence[str], seen: Sequence[_Seen]) -> dict[str, float]:
    """Optuna can only look at dimensions that all candidates have, and forgets which are log.

    It would weigh by a log dimension as if it were even: nearly all of 1e-6..1e-2 would be above
    1e-4. So it is told logarithms.
    """
    if not names:
        return {}
    scaled = {name: _even(space[name], whole) for name, whole in distributions(space).items()}
    logs = [
        _Seen({name: _at(space[name], one.config[name]) for name in names}, one.value)
        for one in seen
    ]
    trees = max(ENOUGH, min(TREES, FITTED // len(seen)))
    return _shares(FanovaImportanceEvaluator(n_trees=trees, seed=0), scaled, names, logs)


def _even(over: Over, whole: BaseDistribution) -> BaseDistribution:
    if isinstance(over, Choice) or not over.log:
        return whole
    return FloatDistribution(math.log(over.low), math.log(over.high))


def _at(over: Over, value: Any) -> Any:
    return value if isinstance(over, Choice) or not over.log else math.log(value)


def _shares(
    evaluator: optuna.importance.BaseImportanceEvaluator,
    space: Mapping[str, BaseDistribution],
    names: Sequence[str],
    seen: Sequence[_Seen],
) -> dict[str, float]:
    """Return the share of each of *names*, in their order; none where all are 0."""
    study = optuna.create_study(direction="maximize")
    study.add_trials(
        create_trial(
            value=one.value,
            params=dict(one.config),
            distributions={name: space[name] for name in one.config},
        )
        for one in seen
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of few candidates in a branch; and that we normalise
        found = optuna.importance.get_param_importances(
            study, evaluator=evaluator, params=list(names), normalize=False
        )
    whole = math.fsum(found.values())  # Optuna's own shares of nothing would be equal ones
    return {name: round(float(found[name] / whole), DIGITS) for name in names} if whole else {}
