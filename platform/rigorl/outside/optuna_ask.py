"""Optuna: what a search tries next.

A pure function of the search, the number asked for and what earlier generations were worth:
each question goes to a fresh sampler with a seed of its own. Nothing is kept between two
questions, so there is no study to be locked, restored or left with trials that run for ever.
"""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from rigorl.search import Outcome
from rigorl.seeds import integer
from rigorl.spec import Choice, Integer, Real, Search, Space

Config = Mapping[str, Any]
STATES = {
    "finished": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
optuna.logging.set_verbosity(optuna.logging.WARNING)


def ask(search: Search, number: int, told: Sequence[Outcome]) -> Config:
    """Return candidate *number* of *search*, a value for each dimension of its space."""
    space = distributions(search.space)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = optuna.samplers.TPESampler(
            seed=integer(search.seed, "sampler", number),
            multivariate=True,
            n_startup_trials=search.generation,  # after one generation there is something to go by
        )
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.add_trials([_told(o, space) for o in told if _fits(o.config, search.space)])
    return dict(study.ask(space).params)


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Return *space* in Optuna's words."""
    return {name: _distribution(over) for name, over in space.items()}


def _distribution(over: Real | Integer | Choice) -> BaseDistribution:
    match over:
        case Real(low=low, high=high, log=log):
            return FloatDistribution(low, high, log=log)
        case Integer(low=low, high=high, log=log):
            return IntDistribution(low, high, log=log)
        case Choice(of=of):
            return CategoricalDistribution(of)


def _fits(config: Config, space: Space) -> bool:
    """The first candidate is the arm as it comes, which may lie outside the space."""
    return all(
        config[name] in over.of
        if isinstance(over, Choice)
        else isinstance(config[name], int | float) and over.low <= config[name] <= over.high
        for name, over in space.items()
    )


def _told(outcome: Outcome, space: dict[str, BaseDistribution]) -> FrozenTrial:
    finite = {rung: v for rung, v in outcome.values.items() if math.isfinite(v)}
    return create_trial(
        state=STATES[outcome.state],
        value=outcome.value if outcome.state == "finished" else None,
        params=dict(outcome.config),
        distributions=space,
        intermediate_values=finite,
    )
