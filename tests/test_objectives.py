"""What a search may maximise, which candidate wins, and what is refused: by hand."""

from typing import Any

import msgspec
import pytest

from conftest import tiny
from rigorl import objectives, plan, playable, search
from rigorl.errors import SpecError
from rigorl.outside import optuna_ask
from rigorl.search import Outcome, Standing
from rigorl.searches import Measure, Search
from rigorl.space import Real
from rigorl.spec import Experiment
from rigorl.trial import Report, Score, Trial

SPACE = {f"x{n}": Real(low=0.0, high=1.0) for n in range(8)}
SPEC = tiny(
    tasks=[
        {"name": "a", "env": "CartPole-v1", "random": 10, "reference": 20},
        {"name": "b", "env": "CartPole-v1"},
    ],
    budget={"steps": 20, "exam_every": 10, "exam_episodes": 1},
    seeds={"test": [0, 1]},
)
ONE, TWO = plan.trials(SPEC, "seeker", "test", {}, SPEC.seeds.test)


def report(trial: Trial, rung: int | None, stage: int, update: int, **tasks: Any) -> Report:
    """Return a report in which each of *tasks* has a list of policies, each a list of episodes."""
    scores = [
        Score(task, f"p{n}", tuple(map(tuple, episodes)))
        for task, policies in tasks.items()
        for n, episodes in enumerate(policies)
    ]
    return Report(
        trial=trial.id,
        stage=stage,
        step=update,
        update=update,
        rung=rung,
        stage_ended=False,
        finished=rung == 3,
        metrics={},
        scores=tuple(scores),
    )


def life(trial: Trial, *values: tuple[float, float]) -> list[Report]:
    """Return four exams of *trial*, with the returns on both tasks; the second begins half way."""
    return [
        report(trial, rung, rung // 2, rung + 1, a=[[[a]]], b=[[[b]]])
        for rung, (a, b) in enumerate(values)
    ]


def how(**said: Any) -> Search:
    return Search(space=SPACE, candidates=20, **said)


def outcome(*vectors: tuple[float, ...], config: Any = None) -> Outcome:
    return Outcome(config or {}, "finished", {0: vectors[0][0]}, vectors=vectors)


def test_one_exam_tells_scores_and_updates() -> None:
    both = report(ONE, 2, 1, 7, a=[[[15.0], [17.0]]], b=[[[0.2], [0.6]]])
    assert objectives.at(ONE, both, Measure()) == pytest.approx((0.6 + 0.4) / 2)
    assert objectives.at(ONE, both, Measure(objective="worst_task")) == pytest.approx(0.4)
    assert objectives.at(ONE, both, Measure(objective="updates")) == -7
    first = report(ONE, 0, 0, 7, a=[[[15.0], [17.0]]], b=[[[-9.0], [-9.0]]])
    assert objectives.at(ONE, first, Measure(objective="worst_task")) == pytest.approx(0.6)


def test_a_hypervolume_is_of_mean_returns_of_policies() -> None:
    """Policies at (2, 1) and (1, 3), each the mean of two episodes: 2 + 2. And (1, 1) on b."""
    a = [[[1.0, 0.0], [3.0, 2.0]], [[1.0, 3.0], [1.0, 3.0]]]
    volume = Measure(objective="hypervolume", reference=(0.0, 0.0))
    assert objectives.at(ONE, report(ONE, 0, 0, 1, a=a, b=[[[9.0, 9.0]]]), volume) == 4
    assert objectives.at(ONE, report(ONE, 2, 1, 1, a=a, b=[[[1.0, 1.0]]]), volume) == (4 + 1) / 2
    share = Measure(objective="hypervolume", reference=(0.0, 0.0), ideal=(4.0, 4.0))
    assert objectives.at(ONE, report(ONE, 0, 0, 1, a=a), share) == 4 / 16
    with pytest.raises(SpecError, match=r"has 1, and task 'a' earns 2; correct it"):
        objectives.at(
            ONE, report(ONE, 0, 0, 1, a=a), Measure(objective="hypervolume", reference=(0.0,))
        )


def test_a_candidate_is_measured_from_reports() -> None:
    """Of task a, learned at 30 (a score of 2), trial one forgets half and trial two nothing."""
    lives = {
        ONE.id: life(ONE, (20, 0), (30, 0), (25, 0.5), (20, 1.0)),
        TWO.id: life(TWO, (20, 0), (30, 0), (10, 0.0), (30, 0.0)),
    }
    known = {id_: Standing(dict.fromkeys(range(4), 99.0), finished=True) for id_ in lives}
    many = how(maximise=("worst_task", "forgetting", "worst_seed", "updates"))
    found = objectives.measured(many, [ONE, TWO], known, lambda ids: {i: lives[i] for i in ids})
    assert found[ONE.id].values == {0: 1.0, 1: 2.0, 2: 0.5, 3: 1.0}
    assert found[ONE.id].vector == (1.0, -1.0, 1.0, -4.0)
    assert found[TWO.id].vector == (0.0, 0.0, 1.0, -4.0)
    judged = search.judge({}, [ONE, TWO], found, {})
    assert objectives.worth(many, judged) == (0.5, -0.5, 1.0, -4.0)
    worst = how(maximise=("worst_case",))
    found = objectives.measured(worst, [ONE, TWO], known, lambda ids: {i: lives[i] for i in ids})
    assert found[ONE.id].values == {0: 1.0, 1: 2.0, 2: (1.5 + 0.5) / 2, 3: (1.0 + 1.0) / 2}
    assert [found[id_].vector for id_ in lives] == [(1.0,), (0.0,)]
    lives[TWO.id] = life(TWO, (20, 0), (30, 0), (10, 0.0), (30, -1.0))
    found = objectives.measured(many, [ONE, TWO], known, lambda ids: {i: lives[i] for i in ids})
    assert objectives.worth(many, search.judge({}, [ONE, TWO], found, {}))[2] == 0.5  # the worst


def test_seeds_that_are_played_one_after_another_count_together() -> None:
    many = how(maximise=("score", "worst_seed"))
    first, then = outcome((1.0, 1.0)), outcome((4.0, 4.0), (5.5, 5.5))
    both = search.joined(
        first._replace(curves=({0: 1.0},)), then._replace(curves=({0: 4.0}, {0: 5.5}))
    )
    assert objectives.worth(many, both) == (3.5, 1.0)


def test_the_order_of_reports_does_not_matter_and_who_has_none_is_not_asked_for() -> None:
    told = life(ONE, (20, 0), (30, 0), (25, 0.5), (20, 1.0))
    known = {ONE.id: Standing(dict.fromkeys(range(4), 0.0), finished=True)}
    asked = []

    def reports(ids: Any) -> dict[str, list[Report]]:
        asked.extend(ids)
        return {ONE.id: told[::-1]}

    many = how(maximise=("score", "forgetting"))
    assert objectives.measured(many, [ONE, TWO], known, reports)[ONE.id].vector == (1.0, -1.0)
    assert asked == [ONE.id]
    assert objectives.measured(how(), [ONE, TWO], known, reports) is known


def test_the_winner_is_the_knee_the_first_or_the_heaviest() -> None:
    told = [
        Outcome({}, "failed", {}),
        outcome((10.0, -10.0)),
        outcome((9.0, -5.0)),
        Outcome({}, "pruned", {0: 99.0}),
        outcome((0.0, 0.0)),
        outcome((8.0, -6.0)),
    ]

    def won(**said: Any) -> Outcome | None:
        return objectives.best(how(maximise=("score", "forgetting"), **said), told)

    assert won() is told[2]
    assert won(choose="first") is told[1]
    assert won(choose={"score": 1.0, "forgetting": 3.0}) is told[4]
    assert won(choose={"score": 1.0, "forgetting": 0.1}) is told[1]
    assert objectives.best(how(maximise=("score", "updates")), told[:1]) is None
    mean = objectives.front(how(maximise=("score", "forgetting")), told, told[2], [])
    assert mean is not None
    assert [(c.number, c.chosen) for c in mean.candidates] == [(1, False), (2, True), (4, False)]
    assert mean.test == {}


def test_of_one_objective_the_largest_wins() -> None:
    told = [outcome((5.0,), (0.0,)), outcome((2.0,), (1.0,)), outcome((1.0,), (1.0,))]
    assert objectives.best(how(maximise=("worst_seed",)), told) is told[1]
    assert objectives.best(how(maximise=("worst_task",)), told) is told[0]


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"sampler": "nsga2"}, "nsga2 must have several objectives, but maximise has score"),
        ({"sampler": "motpe"}, "motpe must have several objectives"),
        (
            {"sampler": "cmaes", "maximise": ("score", "updates")},
            "cmaes must have one objective, but maximise has score, updates",
        ),
        ({"maximise": ("score", "score")}, "objectives must differ"),
        (
            {"sampler": "nsga3", "maximise": ("score", "updates"), "generation": 1},
            "generation must be 2 at least for nsga3",
        ),
        (
            {"maximise": ("forgetting", "score"), "prune": {}},
            "put one of score, worst_task, updates, hypervolume first, or stop nobody",
        ),
        ({"choose": {"updates": 1.0}}, "choose must weigh objectives of maximise .* has updates"),
        ({"choose": {"score": -1.0}}, "by positive numbers"),
        ({"choose": {}}, "choose must weigh an objective"),
        ({"maximise": ("hypervolume",)}, "reference_point must be given for a hypervolume"),
        ({"reference_point": (0.0,)}, "and for nothing else"),
        (
            {"maximise": ("hypervolume",), "reference_point": (0.0, 1.0), "ideal_point": (1.0,)},
            "ideal_point must lie above reference_point",
        ),
        (
            {"maximise": ("hypervolume",), "reference_point": (0.0,), "ideal_point": (0.0,)},
            "ideal_point must lie above reference_point",
        ),
        ({"maximise": ("hypervolume",), "reference_point": (float("nan"),)}, "must be finite"),
        ({"maximise": ()}, "length"),
        ({"maximise": ("speed",)}, "speed"),
    ],
)
def test_what_makes_no_sense_is_refused(said: dict[str, Any], message: str) -> None:
    space = {"x": {"kind": "real", "low": 0, "high": 1}}
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert({"space": space, "candidates": 4, **said}, Search)


def searching_for(*names: str, tasks: int = 2, tune: int = 2, **said: Any) -> Experiment:
    space = {"rate": {"kind": "real", "low": 0.01, "high": 0.9}}
    arm = {
        "agent": {"name": "helpers.seeker"},
        "search": {"space": space, "candidates": 4, "maximise": names, **said},
    }
    return tiny(
        arms={"x": arm},
        tasks=[{"name": f"t{n}", "env": "helpers.worlds:Target-v0"} for n in range(tasks)],
        seeds={"tune": list(range(10, 10 + tune)), "test": [0]},
    )


@pytest.mark.parametrize(
    ("name", "what"), [(name, "tasks") for name in ("forgetting", "worst_task", "worst_case")]
)
def test_what_one_task_cannot_tell_is_refused(name: str, what: str) -> None:
    searching_for("score", name)
    with pytest.raises(msgspec.ValidationError, match=rf"{name} must have several {what}.* is 1"):
        searching_for("score", name, tasks=1)


def test_one_seed_is_not_the_worst_of_many() -> None:
    with pytest.raises(msgspec.ValidationError, match="worst_seed must have several tuning seeds"):
        searching_for("score", "worst_seed", tune=1)


def test_a_reference_point_is_held_to_what_tasks_reward() -> None:
    assert playable.check(searching_for("hypervolume", reference_point=[0.0]))
    with pytest.raises(SpecError, match="has 2, and task 't0' earns 1") as refused:
        playable.check(searching_for("hypervolume", reference_point=[0.0, 0.0]))
    assert refused.value.at == "$.arms.x.search.reference_point"


def test_what_is_maximised_tells_searches_apart_and_what_is_chosen_does_not() -> None:
    ids = [
        plan.search_id(spec, "x", {})
        for spec in (
            searching_for("score"),
            searching_for("score", "updates"),
            searching_for("hypervolume", reference_point=[0.0]),
            searching_for("hypervolume", reference_point=[1.0]),
            searching_for("hypervolume", reference_point=[0.0], ideal_point=[2.0]),
        )
    ]
    assert len(set(ids)) == 5
    assert plan.search_id(searching_for("score", "updates", choose="first"), "x", {}) == ids[1]
    assert ids[0] == "3620e8f58175b203"  # before there was a choice


@pytest.mark.parametrize("sampler", ["nsga2", "nsga3", "motpe", "tpe", "gp", "random", "qmc"])
def test_samplers_answer_alike_whoever_asks(sampler: Any) -> None:
    asking = how(sampler=sampler, maximise=("score", "updates"))
    told: list[Outcome] = [Outcome({"x0": None}, "finished", {0: 1.0}, vectors=((1.0, 1.0),))]
    for number in range(1, 14):
        config = optuna_ask.ask(asking, number, told)
        assert config == optuna_ask.ask(asking, number, list(told))
        assert asking.keeps(config)
        if number % 5 == 0:
            told.append(Outcome(config, "pruned", {0: 1.0, 1: 2.0}))
        elif number % 7 == 0:
            told.append(Outcome(config, "failed", {}))
        else:
            told.append(outcome((config["x0"], -config["x1"]), config=config))
    assert len({str(outcome.config) for outcome in told}) > 7  # children may be as their parents


@pytest.mark.parametrize("sampler", ["nsga2", "nsga3"])
def test_children_take_after_the_best_of_all_generations(sampler: Any) -> None:
    """Eight that finished are two generations of four; those who bear the third are the best four.

    A value that a child has from anybody is of one of them: not of the others, and not of one
    that was pruned, however good it looked.
    """
    asking = how(sampler=sampler, generation=4, maximise=("score", "updates"))
    told = []
    for n in range(9):
        config = dict.fromkeys(SPACE, (n + 1) / 10)
        worth = float([3, 9, 4, 8, 99, 2, 7, 1, 6][n])
        if n == 4:
            told.append(Outcome(config, "pruned", {0: worth}, vectors=()))
        else:
            told.append(outcome((worth, worth), config=config))
    children = [optuna_ask.ask(asking, number, told) for number in range(9, 29)]
    values = [value for child in children for value in child.values()]
    known = {(n + 1) / 10 for n in range(9)}
    inherited = [value for value in values if value in known]
    assert set(inherited) == {0.2, 0.4, 0.7, 0.9}  # worth 9, 8, 7 and 6
    assert len(inherited) > len(values) / 2  # the others are mutations
    young = [optuna_ask.ask(asking, number, told[:4]) for number in range(4, 14)]
    parents = {value for child in young for value in child.values()} & known
    assert parents
    assert parents <= {0.1, 0.2, 0.3, 0.4}


def heirs(sampler: Any, points: list[tuple[float, float]], size: int = 4) -> set[int]:
    """Return whose values children have, if candidate n, at points[n], is n / 100 throughout."""
    asking = how(sampler=sampler, generation=size, maximise=("score", "updates"))
    told = [outcome(point, config=dict.fromkeys(SPACE, n / 100)) for n, point in enumerate(points)]
    children = [optuna_ask.ask(asking, len(points) + n, told) for n in range(30)]
    known = {n / 100: n for n in range(len(points))}
    return {known[value] for child in children for value in child.values() if value in known}


def test_who_was_not_chosen_once_does_not_come_back() -> None:
    """Of the first eight, those in the crowd (4 to 7) do not bear the third generation.

    Then two come that beat the four that did, and not the crowd: it stays out all the same.
    """
    ends = [(0.0, 10.0), (10.0, 0.0), (2.5, 7.5), (7.5, 2.5)]
    crowd = [(5.0, 5.0), (4.9, 5.1), (5.1, 4.9), (4.8, 5.2)]
    assert heirs("nsga2", [*ends, *crowd]) == {0, 1, 2, 3}
    last = [(3.0, 11.0), (11.0, 3.0), (-1.0, -1.0), (-2.0, -2.0)]
    assert heirs("nsga2", [*ends, *crowd, *last]) == {0, 1, 8, 9}


def test_all_children_of_a_generation_have_the_same_parents() -> None:
    """NSGA-III draws lots among those that are equally good: for all of a generation at once."""
    points = [(float(n), 15.0 - n) for n in range(16)]
    assert len(heirs("nsga3", points, size=8)) == 8
