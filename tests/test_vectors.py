"""Searches for several things, or for a set, that are played: deaths change nothing in them."""

import json
import math
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from conftest import tiny
from helpers.dying import Dying, Killed
from rigorl import experiment, plan, playable, report
from rigorl.analysis.verdict import Verdict
from rigorl.objectives import at
from rigorl.outside import optuna_ask, yaml_file
from rigorl.outside.groups import Groups
from rigorl.outside.in_process import InProcess, Memory
from rigorl.outside.journal import SqlJournal, at_home
from rigorl.search import mean
from rigorl.spec import Experiment

SHIPPED = Path(__file__).parents[1] / "experiments" / "hpo" / "two_objectives.yaml"


def forgetful(tune: int = 2, **said: Any) -> Experiment:
    """Two tasks that pull apart: a high rate learns the second one, which counts more, and
    forgets the first.
    """
    space = {"rate": {"kind": "real", "low": 0.001, "high": 0.9, "log": True}}
    how = {
        "space": space,
        "candidates": 10,
        "generation": 4,
        "sampler": "nsga2",
        "maximise": ["score", "forgetting"],
        **said,
    }
    agent = {"name": "helpers.seeker", "config": {"rate": 0.02}}
    target = {"env": "helpers.worlds:Target-v0", "reference": 0}
    return tiny(
        arms={"tuned": {"agent": agent, "search": how}},
        tasks=[
            {"name": "half", **target, "random": -10, "kwargs": {"noise": 0.01}},
            {"name": "minus", **target, "random": -5, "kwargs": {"target": -0.5}},
        ],
        budget={"steps": 20, "exam_every": 5, "exam_episodes": 1, "checkpoint_every": 10},
        seeds={"tune": list(range(10, 10 + tune)), "test": [0, 1, 2]},
    )


def charted(**said: Any) -> Experiment:
    """An agent that keeps several policies, on a task with two rewards."""
    space = {
        "policies": {"kind": "choice", "of": [1, 3, 6]},
        "rate": {"kind": "real", "low": 0.01, "high": 0.9},
    }
    how = {
        "space": space,
        "candidates": 12,
        "generation": 3,
        "sampler": "random",
        "maximise": ["hypervolume"],
        "reference_point": [-0.1, -0.1],
        "ideal_point": [1.0, 1.0],
        **said,
    }
    return tiny(
        arms={"tuned": {"agent": {"name": "helpers.chart"}, "search": how}},
        tasks=[{"name": "sea", "env": "helpers.worlds:Sea-v0"}],
        budget={"steps": 10, "exam_every": 2, "exam_episodes": 2, "checkpoint_every": 5},
        seeds={"tune": [10, 11], "test": [0, 1, 2]},
    )


Kept = Memory | SqlJournal


def run(spec: Experiment, journal: Kept, storage: Path | None = None) -> Verdict:
    journal.begin(spec)
    return experiment.run(spec, InProcess(storage), journal, optuna_ask.ask)


SPECS = {
    "front": forgetful(),
    "pruned": forgetful(prune={"grace": 0.1}, sampler="motpe"),
    "set": charted(prune={"grace": 0.1}),
    "raced": forgetful(5, prune={"kind": "racing"}, sampler="tpe", candidates=6),
    "worst seed": forgetful(maximise=["worst_seed"], sampler="random"),
}


@pytest.mark.parametrize("name", SPECS)
def test_whoever_dies_whenever_the_verdict_is_the_same(name: str, tmp_path: Path) -> None:
    spec, whole = SPECS[name], Memory()
    verdict = run(spec, whole)
    expected = report.as_json(verdict)
    tuning, how = verdict.arms["tuned"].tuning, spec.arms["tuned"].search
    assert tuning is not None
    assert how is not None
    assert bool(tuning.pruned) == bool(how.prune), "else this way was not seen"
    for after in (20, 70):
        cut, storage = Memory(), tmp_path / f"{after}"
        with pytest.raises(Killed):
            experiment.run(spec, Dying(storage, after), cut, optuna_ask.ask)
        assert report.as_json(run(spec, cut, storage)) == expected
        assert cut.asked == whole.asked


def test_a_journal_that_is_opened_again_tells_the_same(tmp_path: Path) -> None:
    spec = SPECS["pruned"]
    expected = report.as_json(run(spec, Memory()))
    with closing(at_home(tmp_path)) as cut, pytest.raises(Killed):
        experiment.run(spec, Dying(tmp_path / "trials", 50), cut, optuna_ask.ask)
    with closing(at_home(tmp_path)) as again:
        assert report.as_json(run(spec, again, tmp_path / "trials")) == expected
        assert report.as_json(experiment.verdict(spec, again)) == expected


def test_a_verdict_tells_the_front_and_what_its_choice_is_worth() -> None:
    spec, journal = SPECS["front"], Memory()
    verdict = run(spec, journal)
    tuning = verdict.arms["tuned"].tuning
    assert tuning is not None
    front = tuning.front
    assert front is not None
    assert len(front.candidates) > 1
    by_score = sorted(front.candidates, key=lambda c: c.tuned["score"])
    forgotten = [c.tuned["forgetting"] for c in by_score]
    assert forgotten == sorted(forgotten, reverse=True)  # more of the one is less of the other
    (chosen,) = [c for c in front.candidates if c.chosen]
    assert chosen.config == verdict.arms["tuned"].config
    assert chosen.tuned["score"] == pytest.approx(tuning.tuned)
    assert tuning.luck is None
    arm = verdict.arms["tuned"]
    assert arm.continual["forg"].point == pytest.approx(-front.test["forgetting"])
    assert arm.score is not None
    assert arm.score.mean.point == pytest.approx(front.test["score"])
    page = report.markdown(verdict)
    assert "| nobody beats it" in page
    assert f"tuned {chosen.number}, chosen" in page
    assert "| chosen, on test seeds" in page
    told = json.loads(report.as_json(verdict))["arms"]["tuned"]["tuning"]["front"]
    assert told["test"] == front.test


def test_the_best_in_the_first_wins_where_that_is_asked_for() -> None:
    journal = Memory()
    knee = run(SPECS["front"], journal).arms["tuned"]
    first = run(forgetful(choose="first"), journal).arms["tuned"]
    assert first.tuning is not None
    assert first.tuning.front is not None
    assert first.config != knee.config
    best = max(first.tuning.front.candidates, key=lambda c: c.tuned["score"])
    assert best.chosen
    assert len(journal.asked) == 1  # the same candidates


def test_a_set_is_worth_what_it_covers_and_pruned_by_that(tmp_path: Path) -> None:
    """One policy has the best score, a mean over policies, and covers the least."""
    spec, whole = SPECS["set"], Memory()
    run(charted(), whole)
    (asked,) = whole.asked.values()
    expected = pruned_by_hand(spec, asked, whole)
    with closing(at_home(tmp_path)) as journal:
        verdict = run(spec, journal, tmp_path / "trials")
        tuning = verdict.arms["tuned"].tuning
        assert tuning is not None
        assert (tuning.pruned, tuning.steps) == expected
        assert tuning.front is not None
        (winner,) = [c for c in tuning.front.candidates if c.chosen]
        assert winner.config["policies"] == 6
        assert 0 < winner.tuned["hypervolume"] < 1
        assert tuning.test is not None
        assert tuning.front.test["hypervolume"] == pytest.approx(tuning.test.point)
        groups = Groups(journal, spec)
        groups.meet(journal.newest(spec.name))
        unfinished = {t for t, (_, _, over) in journal.newest(spec.name).items() if not over}
        assert groups.pruned(unfinished) == unfinished
        assert len(unfinished) == 2 * tuning.pruned
        assert not any(experiment.left(spec, journal).values())


def pruned_by_hand(spec: Experiment, asked: Any, whole: Memory) -> tuple[int, int]:
    """Return how many candidates miss a bar, and the steps made, from hypervolumes at all exams.

    The bar at each of the exams 1 to 3 is the median of earlier generations there.
    """
    how = spec.arms["tuned"].search
    assert how is not None
    curves: list[list[float]] = []
    seen: list[list[float]] = []
    pruned = steps = 0
    for number in range(12):
        trials = plan.trials(spec, "tuned", "tune", {"tuned": asked[number]}, spec.seeds.tune)
        told = [whole.reports([trial.id])[trial.id] for trial in trials]
        curve = [
            mean([at(t, r[n], how.measures[0]) for t, r in zip(trials, told, strict=True)])
            for n in range(5)
        ]
        stop = 4
        for n in range(1, 4):
            earlier = sorted([c[n] for c in seen if len(c) > n], reverse=True)
            if len(earlier) > 1 and curve[n] < earlier[math.ceil(len(earlier) / 2) - 1]:
                stop = n
                break
        curves.append(curve[: stop + 1])
        pruned, steps = pruned + (stop < 4), steps + 2 * 2 * (stop + 1)
        if number % 3 == 2:
            seen = list(curves)
    return pruned, steps


def test_the_worst_seed_of_a_candidate_is_one_of_its_seeds() -> None:
    spec, journal = SPECS["worst seed"], Memory()
    tuning = run(spec, journal).arms["tuned"].tuning
    assert tuning is not None
    assert tuning.front is not None
    (winner,) = [c for c in tuning.front.candidates if c.chosen]
    known = journal.standings(spec.name)
    last = [
        min(
            known[t.id].values[7]
            for t in journal.trials.values()
            if t.phase == "tune" and t.agent.config == {"rate": c["rate"]}
        )
        for asked in journal.asked.values()
        for c in asked.values()
    ]
    assert winner.tuned["worst_seed"] == max(last)
    assert tuning.tuned > max(last)  # a mean over seeds


def test_the_shipped_search_can_be_played() -> None:
    small = [
        "budget.steps=64",
        "budget.exam_every=32",
        "budget.exam_episodes=1",
        "arms.both.search.candidates=5",
        "arms.both.search.generation=2",
        "arms.both.agent.config.n_steps=8",
        "arms.both.agent.config.minibatch=16",
        "arms.as-it-comes.agent.config.n_steps=8",
        "seeds.tune=[1, 2]",
        "seeds.test=[3]",
    ]
    assert playable.check(yaml_file.read(SHIPPED)) == []
    spec = yaml_file.read(SHIPPED, small)
    verdict = run(spec, Memory())
    tuning = verdict.arms["both"].tuning
    assert tuning is not None
    assert tuning.front is not None
    assert set(tuning.front.test) == {"score", "forgetting"}
