"""Trials, and the order in which they may be played."""

from collections.abc import Iterator, Sequence

import msgspec
from msgspec.structs import replace

from conftest import tiny
from rigorl import plan
from rigorl.plan import Agenda, Story
from rigorl.spec import AgentSpec, Budget, Experiment, TaskSpec
from rigorl.trial import Bundle, Trial


def bundles(spec: Experiment, arm: str) -> list[Bundle]:
    trials = plan.trials(spec, arm, "test", {}, spec.seeds.test)
    return [Bundle(trials=(trial,)) for trial in trials]


def waves(*parts: Sequence[Bundle]) -> Iterator[Sequence[Bundle]]:
    yield from parts


def test_ids_tell_trials_apart_and_are_stable(spec: Experiment) -> None:
    a, b = plan.trials(spec, "seeker", "test", {}, (0, 1))
    again = plan.trials(spec, "seeker", "test", {}, (0, 1))[0]
    assert a.id == again.id != b.id
    assert plan.trials(spec, "seeker", "tune", {}, (0,))[0].id != a.id


def test_trials_of_earlier_versions_keep_their_names() -> None:
    task = TaskSpec(
        name="t",
        env="Hopper-v5",
        physics={"mass": {"torso": 2.0, "foot": 1.0}, "gravity": 1.0},
        kwargs={"z": 1, "a": [1, 2.5]},
    )
    trial = Trial(
        experiment="e",
        arm="a",
        phase="test",
        agent=AgentSpec(name="ppo", config={"lr": 1e-3, "b": 2}),
        tasks=(task,),
        budget=Budget(steps=10, exam_every=5),
        seed=3,
    )
    assert trial.id == "ee32002a1c4e6073"  # before tasks had engine, vary and diverged
    for change in ({"engine": "gymnasium"}, {"vary": {"friction": (1.0, 2.0)}}, {"diverged": 0.5}):
        assert replace(trial, tasks=(replace(task, **change),)).id != trial.id


def test_a_choice_overrides_the_arms_own_settings(searching: Experiment) -> None:
    (trial,) = plan.trials(searching, "tuned", "test", {"tuned": {"rate": 0.5}}, (0,))
    assert trial.agent.config == {"rate": 0.5}


def test_an_arm_after_another_gets_the_same_phase_and_seed() -> None:
    arms = {"x": {"agent": {"name": "helpers.seeker"}}, "y": {"agent": {"name": "frozen"}}}
    spec = tiny(arms=arms | {"y": {**arms["y"], "after": "x"}})
    before = plan.trials(spec, "x", "test", {}, (0, 1))
    after = plan.trials(spec, "y", "test", {}, (0, 1))
    assert [trial.after for trial in after] == [trial.id for trial in before]


def test_more_candidates_are_the_same_search_and_other_spaces_are_not(
    searching: Experiment,
) -> None:
    def changed(**what: object) -> Experiment:
        arm = searching.arms["tuned"]
        search = msgspec.structs.replace(arm.search, **what)
        arms = {**searching.arms, "tuned": msgspec.structs.replace(arm, search=search)}
        return msgspec.structs.replace(searching, arms=arms)

    before = plan.search_id(searching, "tuned", {})
    assert plan.search_id(changed(candidates=60), "tuned", {}) == before
    assert plan.search_id(changed(seed=1), "tuned", {}) != before


def test_a_wave_waits_for_the_last_one_of_its_story_only(searching: Experiment) -> None:
    a, b, c = bundles(searching, "plain")
    x, *_ = bundles(searching, "tuned")
    agenda = Agenda(
        [
            Story("one", frozenset(), waves([a, b], [], [c])),
            Story("two", frozenset(), waves([x])),
        ]
    )
    assert [agenda.take() for _ in range(4)] == [a, b, x, None]
    agenda.settle(a)
    assert agenda.take() is None
    agenda.settle(b)
    assert agenda.take() == c
    assert not agenda.over
    agenda.settle(c)
    assert not agenda.over
    agenda.settle(x)
    assert agenda.over


def test_a_story_waits_for_those_it_comes_after(searching: Experiment) -> None:
    a, b, c = bundles(searching, "plain")
    agenda = Agenda(
        [
            Story("third", frozenset(["second"]), waves([c])),
            Story("second", frozenset(["first"]), waves([b])),
            Story("first", frozenset(), waves([a])),
        ]
    )
    for bundle in (a, b, c):
        assert agenda.take() == bundle
        assert agenda.take() is None
        agenda.settle(bundle)
    assert agenda.over


def test_what_is_planned_counts_every_trial(searching: Experiment) -> None:
    assert plan.counts(searching) == {
        ("plain", "test"): 3,
        ("tuned", "tune"): 8,
        ("tuned", "test"): 3,
    }
    tasks = [
        {"name": "a", "env": "CartPole-v1", "random": "measured", "reference": "seeker"},
        {"name": "b", "env": "CartPole-v1", "random": 1, "reference": "seeker"},
    ]
    assert plan.counts(tiny(tasks=tasks)) == {
        ("seeker", "test"): 2,
        ("seeker", "scale"): 4,
        (plan.UNIFORM, "scale"): 2,
    }


def test_what_two_stories_want_is_not_handed_out_twice_at_a_time(spec: Experiment) -> None:
    both = Bundle(trials=tuple(plan.trials(spec, "seeker", "tune", {}, [3])))
    mine = Bundle(trials=tuple(plan.trials(spec, "seeker", "tune", {}, [4])))
    agenda = Agenda(
        [
            Story("a", frozenset(), iter([[both]])),
            Story("b", frozenset(), iter([[both, mine]])),
        ]
    )
    assert [agenda.take(), agenda.take(), agenda.take()] == [both, mine, None]
    assert not agenda.over
    agenda.settle(both)
    assert agenda.take() == both
    agenda.settle(both)
    agenda.settle(mine)
    assert agenda.over
