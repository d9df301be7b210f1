"""Tasks of labelled examples: who is learned from, who is held out, and what an exam is."""

from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.heart import by_heart
from rigorl import contract
from rigorl.errors import SpecError
from rigorl.lockstep import play
from rigorl.outside.in_process import Alone
from rigorl.spec import AgentSpec, Budget, TaskSpec
from rigorl.tasks import examples
from rigorl.tasks.envs import open_env, open_world, world_spec
from rigorl.tasks.exam import examine, order
from rigorl.trial import Bundle, Report, Trial

BUDGET = Budget(steps=100, exam_every=100, exam_episodes=3)


def digits(**kwargs: Any) -> TaskSpec:
    return TaskSpec(name="digits", env="rigorl/Digits-v0", kwargs=kwargs)


def opened(**kwargs: Any) -> examples.Supervised:
    task = examples.opened(digits(**kwargs))
    assert task is not None
    return task


def test_what_is_held_out_is_never_learned_from() -> None:
    task = opened(split=3)
    learned, kept = (
        {image.tobytes() for image in part.input_ND} for part in (task.examples, task.held_out)
    )
    assert not learned & kept
    assert len(task.examples.label_N) + len(task.held_out.label_N) == 1_797
    shares = np.bincount(task.held_out.label_N) / np.bincount(task.examples.label_N)
    assert shares == pytest.approx(0.4 / 0.6, abs=0.02)


def test_tasks_of_one_trial_hold_out_the_same_images_and_other_trials_others() -> None:
    whole, part, turned = (
        examples.opened(examples.drawn(digits(**kwargs), 7))
        for kwargs in ({}, {"classes": [4, 2]}, {"rotation": 30.0})
    )
    assert whole
    assert part
    assert turned
    of_part = whole.held_out.input_ND[np.isin(whole.held_out.label_N, [2, 4])]
    assert np.array_equal(np.sort(part.held_out.input_ND, 0), np.sort(of_part, 0))
    assert np.array_equal(turned.held_out.label_N, whole.held_out.label_N)
    assert not np.allclose(turned.held_out.input_ND, whole.held_out.input_ND)
    other = examples.opened(examples.drawn(digits(), 8))
    assert other
    assert not np.array_equal(other.held_out.input_ND, whole.held_out.input_ND)


def test_a_split_that_is_given_stays() -> None:
    given = digits(split=5)
    assert examples.drawn(given, 7) is given
    pole = TaskSpec(name="pole", env="CartPole-v1")
    assert examples.drawn(pole, 7) is pole


def test_an_exam_is_all_that_was_held_out_and_its_score_the_share_of_right_answers() -> None:
    task = examples.opened(examples.drawn(digits(classes=[3, 5]), 7))
    assert task is not None
    half = examples.Examples(task.held_out.input_ND[::2], task.held_out.label_N[::2])
    for policy, score in ((by_heart(task.held_out), 1.0), (by_heart(task.examples), 0.0)):
        exam = order(digits(classes=[3, 5]), policy, BUDGET, seed=7)
        assert examine(exam).returns_EO.tolist() == [[score]]
        assert policy.seen == 0  # a copy was asked
    exam = order(digits(classes=[3, 5]), by_heart(half), BUDGET, seed=7)
    count = len(task.held_out.label_N)
    assert examine(exam).returns_EO.tolist() == [[pytest.approx(len(half.label_N) / count)]]


def test_a_trial_learns_from_nothing_that_it_is_examined_on(tmp_path: Path) -> None:
    """Who knows all examples of two tasks by heart knows no image of their exams."""
    trial = Trial(
        experiment="heart",
        arm="heart",
        phase="test",
        agent=AgentSpec(name="helpers.heart"),
        tasks=(digits(), TaskSpec(name="odd", env="rigorl/Digits-v0", kwargs={"classes": [1, 3]})),
        budget=BUDGET,
        seed=5,
    )
    played = list(play(Bundle(trials=(trial,)), Alone(), tmp_path))
    reports = [event for event in played if isinstance(event, Report)]
    assert len(reports) == 2
    assert {score.returns for report in reports for score in report.scores} == {((0.0,),)}


def test_an_episode_shows_an_image_to_learn_from_and_rewards_its_class() -> None:
    known = by_heart(opened(classes=[0, 7], split=1).examples)
    with closing(open_env(digits(classes=[0, 7], split=1))) as env:
        for seed in range(20):
            obs, _ = env.reset(seed=seed)
            right = known(obs[None])[0]
            assert right in (0, 7)
            assert env.step(right)[1:4] == (1.0, True, False)
            env.reset(seed=seed)
            assert env.step((right + 1) % 10)[1] == 0.0


def test_any_agent_may_learn_it_and_the_classifier_nothing_else() -> None:
    tasks = [digits(classes=[0, 1])]
    world = world_spec(tasks, 2)
    assert world.examples
    contract.make(AgentSpec(name="ppo"), world, 0)
    with closing(open_world(tasks[0], 2, 0, {})) as opened_:
        assert opened_.examples is not None
        assert opened_.envs.reset()[0].shape == (2, 64)
    poles = world_spec([TaskSpec(name="pole", env="CartPole-v1")], 2)
    assert not poles.examples
    with pytest.raises(SpecError, match="classifier must have labelled examples"):
        contract.make(AgentSpec(name="classifier"), poles, 0)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"classes": [3, 12]}, r"classes must be some of 0 to 9, but are \[3, 12\]"),
        ({"classes": []}, "classes must be some of 0 to 9"),
        ({"held_out": 1.0}, "held_out must be a share between 0 and 1, but is 1.0"),
        ({"clases": [1]}, "'clases' is not; did you mean 'classes'"),
    ],
)
def test_kwargs_that_make_no_task_are_refused(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        world_spec([digits(**kwargs)], 1)
