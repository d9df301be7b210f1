"""Optuna: what a search tries next.

A pure function of the search, the number asked for and what earlier generations were worth:
each question goes to a fresh sampler with a seed of its own. Nothing is kept between two
questions but what was worked out already, so there is no study to be locked, restored or left
with trials that run for ever. What is not Optuna's is asked from here: CMA-ES and evolution.
"""

import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import FrozenTrial, TrialState, create_trial

from rigorl import evolution, objectives
from rigorl.errors import SpecError
from rigorl.outside import cmaes_ask
from rigorl.search import Outcome
from rigorl.searches import Search
from rigorl.seeds import integer, stream
from rigorl.space import Choice, Integer, Over, Real, Space, counts, fits, grid, ordered, reduced

Config = Mapping[str, Any]
STATES = {
    "finished": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}
GENERATION = {"nsga2": "NSGAIISampler:generation", "nsga3": "NSGAIIISampler:generation"}
"""Under which name each sampler looks for the generation that a trial is of."""
REMEMBERED = 10_000
"""So many outcomes are kept in Optuna's words, for the next question."""
AT_RANDOM = 1 / 3
NO_RUNG = -1
TRIES = 100
"""So often a candidate that breaks a law is drawn again."""
optuna.logging.set_verbosity(optuna.logging.WARNING)


def ask(search: Search, number: int, told: Sequence[Outcome]) -> Config:
    """Return candidate *number* of *search*, a value for each dimension that counts.

    What breaks a law of the search is drawn again.
    """
    if search.sampler == "grid":
        return next(islice(filter(search.keeps, grid(search.space)), _drawn(search, number), None))
    for again in range(TRIES):
        config = _suggest(search, number, told, again)
        if search.keeps(config):
            return config
    raise SpecError(
        f"a sampler must find what `constraints` allow, but {search.sampler} has found nothing in "
        f"{TRIES} tries; loosen them, or tighten the space"
    )


def _drawn(search: Search, number: int) -> int:
    """Return how many candidates were drawn before: the arm as it comes was not, nor `enqueue`."""
    return number - 1 - len(search.enqueue)


def _suggest(search: Search, number: int, told: Sequence[Outcome], again: int) -> Config:
    if search.sampler == "cmaes":
        return cmaes_ask.sampled(search, number, told, again)
    if search.sampler == "dehb":
        return evolution.bred(search, number, told, again)
    directions = ["maximize"] * len(search.maximise)
    study = optuna.create_study(directions=directions, sampler=_sampler(search, number, again))
    if search.sampler == "qmc":
        return _point(study, search.space, _drawn(search, number) + again * search.candidates)
    if search.sampler in GENERATION:
        _breed(
            study, search, [_as_it_ended(o, search) for o in told if fits(search.space, o.config)]
        )
    else:
        rung = _modelled(search, number, told) if search.sampler == "bohb" else None
        trials = (_told(_Same(outcome), _Same(search), rung) for outcome in told)
        study.add_trials([trial for trial in trials if trial])
    return _values(study.ask(), search.space)


def _breed(study: optuna.Study, search: Search, trials: Sequence[FrozenTrial]) -> None:
    """Tell *study* of *trials*, of which generation each is, and who bears the next one.

    Optuna notes this in a study that lives, while it goes on. A generation is full when so many
    finished: who was pruned or failed bears nobody, and another one takes its place. Who bears a
    generation is chosen with a seed of its own, so it is the same for all of its members.
    """
    finished = 0
    for trial in trials:
        trial.system_attrs = {GENERATION[search.sampler]: finished // search.generation}
        finished += trial.state == TrialState.COMPLETE
    study.add_trials(trials)
    for generation in range(1, finished // search.generation + 1):
        chooser = _genetic(search, integer(search.seed, "parents", generation))
        chooser.get_parent_population(study, generation)  # kept in the study


def _modelled(search: Search, number: int, told: Sequence[Outcome]) -> int:
    """Return the rung at which BOHB models what candidates are worth; one below: by chance.

    After Falkner, Klein, Hutter (ICML 2018): the last one that enough have reached, but a third
    of the candidates are drawn at random. The model is Optuna's.
    """
    rng = np.random.default_rng(stream(search.seed, "bohb", number))
    able = [o for o in told if o.state != "failed" and fits(search.space, o.config)]
    reached = Counter(rung for outcome in able for rung in _finite(outcome))
    enough = (rung for rung, count in reached.items() if count >= len(search.space) + 2)
    return NO_RUNG if rng.random() < AT_RANDOM else max(enough, default=NO_RUNG)


def _point(study: optuna.Study, space: Space, n: int) -> Config:
    """Return point *n* of a sequence that fills the space, whether all of it counts or not."""
    whole = distributions(space)
    first = {
        name: over.of[0] if isinstance(over, Choice) else over.low for name, over in space.items()
    }
    nothing = [0.0] * len(study.directions)
    study.add_trial(create_trial(values=nothing, params=first, distributions=whole))  # what to fill
    for _ in range(n):
        study.ask(whole)
    return reduced(space, study.ask(whole).params)


def _values(trial: optuna.Trial, space: Space) -> Config:
    """Ask *trial* for each dimension that counts, those that others hang on first."""
    config: dict[str, Any] = {}
    for name in ordered(space):
        if counts(space[name], config):
            config[name] = _suggested(trial, name, space[name])
    return {name: config[name] for name in space if name in config}


def _sampler(search: Search, number: int, again: int) -> optuna.samplers.BaseSampler:
    seed = integer(search.seed, "sampler", number, *([again] if again else []))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        match search.sampler:
            case "random":
                return optuna.samplers.RandomSampler(seed)
            case "qmc":
                return optuna.samplers.QMCSampler(scramble=True, seed=integer(search.seed, "qmc"))
            case "gp":
                return optuna.samplers.GPSampler(seed=seed, n_startup_trials=search.generation)
            case "nsga2" | "nsga3":
                return _genetic(search, seed)
            case _:  # of several objectives, motpe
                return optuna.samplers.TPESampler(
                    seed=seed,
                    multivariate=True,
                    group=any(over.when for over in search.space.values()),
                    n_startup_trials=search.generation,  # then there is something to go by
                )


def _genetic(search: Search, seed: int) -> optuna.samplers.BaseGASampler:
    both = {"nsga2": optuna.samplers.NSGAIISampler, "nsga3": optuna.samplers.NSGAIIISampler}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return both[search.sampler](population_size=search.generation, seed=seed)


def distributions(space: Space) -> dict[str, BaseDistribution]:
    """Return *space* in Optuna's words."""
    return {name: _distribution(over) for name, over in space.items()}


def _distribution(over: Over) -> BaseDistribution:
    match over:
        case Real(low=low, high=high, log=log):
            return FloatDistribution(low, high, log=log)
        case Integer(low=low, high=high, log=log):
            return IntDistribution(low, high, log=log)
        case Choice(of=of):
            return CategoricalDistribution(of)


def _suggested(trial: optuna.Trial, name: str, over: Over) -> Any:
    match over:
        case Real(low=low, high=high, log=log):
            return trial.suggest_float(name, low, high, log=log)
        case Integer(low=low, high=high, log=log):
            return trial.suggest_int(name, low, high, log=log)
        case Choice(of=of):
            return trial.suggest_categorical(name, of)


class _Same:
    """A value that is looked at once, and then known by where it lies."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __hash__(self) -> int:
        return id(self.value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and self.value is other.value


@lru_cache(maxsize=REMEMBERED)
def _told(outcome: _Same, search: _Same, rung: int | None) -> FrozenTrial | None:
    """Return an outcome in Optuna's words, if it is of the space.

    As what it came to at *rung*, if one is given: nothing, if it did not come there.
    """
    config = outcome.value.config
    if not fits(search.value.space, config):
        return None
    if rung is None:
        trial = _as_it_ended(outcome.value, search.value)
    elif outcome.value.state == "failed" or rung not in _finite(outcome.value):
        return None
    else:
        trial = create_trial(
            value=outcome.value.values[rung],
            params=dict(config),
            distributions=_distributions(search.value, config),
        )
    trial.__deepcopy__ = lambda _: trial  # Optuna copies what it is told, for half of its time
    return trial


def _as_it_ended(outcome: Outcome, search: Search) -> FrozenTrial:
    """Return *outcome* in Optuna's words, which has none for a curve of several objectives."""
    finished, one = outcome.state == "finished", len(search.maximise) == 1
    return create_trial(
        state=STATES[outcome.state],
        values=objectives.worth(search, outcome) if finished else None,
        params=dict(outcome.config),
        distributions=_distributions(search, outcome.config),
        intermediate_values=_finite(outcome) if one else {},
    )


def _distributions(search: Search, config: Config) -> dict[str, BaseDistribution]:
    known = _known(_Same(search.space))
    return {name: known[name] for name in config}


@lru_cache(maxsize=REMEMBERED)
def _known(space: _Same) -> dict[str, BaseDistribution]:
    return distributions(space.value)


def _finite(outcome: Outcome) -> dict[int, float]:
    return {rung: v for rung, v in outcome.values.items() if math.isfinite(v)}
