"""Methods against forgetting, against cases worked by hand and what each must be at its limits."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from rigorl.agents.classifier import Classifier, Config
from rigorl.blocks.continual import (
    Chosen,
    Learned,
    Lesson,
    Method,
    Rows,
    agem,
    ewc,
    finetune,
    lwf,
    refresh,
    replay,
    si,
    steady,
)
from rigorl.blocks.continual.memory import Memory
from rigorl.blocks.continual.tangent import Tangent
from rigorl.contract import Span
from rigorl.errors import TrialFailed
from rigorl.outside.in_process import Alone
from rigorl.spec import TaskSpec
from rigorl.tasks.envs import open_world
from rigorl.tasks.world import World

EVERY: list[Chosen] = [
    finetune.Config(),
    replay.Config(memory=20),
    ewc.Config(strength=3.0),
    si.Config(),
    lwf.Config(),
    agem.Config(memory=20),
    refresh.Config(base=replay.Config(memory=20), gamma=1e-3, noise=0.1),
    steady.Config(memory=20),
]


def luck(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


class Bowl:
    """A student whose loss is half of theta' H theta, H diagonal; it remembers a pull."""

    def __init__(self, weights: Sequence[float], curvature: Sequence[float]) -> None:
        self.weights_P, self.h_P = torch.tensor(weights), torch.tensor(curvature)

    def gradient(self, batch: Any) -> Tensor:
        del batch
        return self.h_P * self.weights_P

    def recall(self, rows: Rows) -> Tensor:
        return rows[0].mean(0)

    def answers(self, batch: Any) -> Rows:
        del batch
        return (self.weights_P.clone()[None],)

    def fisher(self, batch: Any) -> Tensor:
        del batch
        return torch.ones_like(self.weights_P)

    def tangents(self, rows: Rows) -> list[Tangent]:
        raise NotImplementedError

    def learned(self, pull: Sequence[float]) -> Learned:
        rows = (torch.tensor([pull]),)
        return Learned(None, rows, torch.zeros(1, dtype=torch.int64))


def test_refresh_contracts_each_mode_as_the_algebra_says() -> None:
    """One step is (I - eta H)(I + gamma H) theta with F = I (and no damping to speak of)."""
    eta, gamma = 0.1, 0.05
    student = Bowl([1.0, 2.0], [3.0, 0.5])
    method = refresh.Refresh(
        refresh.Config(finetune.Config(), gamma=gamma, noise=0.0, damping=1e-9),
        finetune.Finetune(),
        student.weights_P,
        luck(),
    )
    method.consolidate(student, student.learned([0.0, 0.0]))
    expected_P = student.weights_P * (1 - eta * student.h_P) * (1 + gamma * student.h_P)
    student.weights_P.sub_(method.gradient(student, Lesson(None)), alpha=eta)
    torch.testing.assert_close(student.weights_P, expected_P)


def test_the_noise_of_refresh_has_the_deviation_that_the_paper_gives() -> None:
    student = Bowl([0.0] * 20_000, [0.0] * 20_000)
    config = refresh.Config(finetune.Config(), gamma=0.02, damping=4.0)
    method = refresh.Refresh(config, finetune.Finetune(), student.weights_P, luck())
    method.gradient(student, Lesson(None))
    assert student.weights_P.std() == pytest.approx((2 * 0.02 / 4.0) ** 0.5, rel=0.03)


def test_ewc_pulls_back_by_strength_and_importance() -> None:
    student = Bowl([1.0, -1.0], [0.0, 0.0])
    method = ewc.EWC(ewc.Config(strength=10.0, decay=0.5), student.weights_P)
    assert torch.equal(method.gradient(student, Lesson(None)), torch.zeros(2))
    method.consolidate(student, student.learned([0.0, 0.0]))
    method.consolidate(student, student.learned([0.0, 0.0]))  # importance 0.5 * 1 + 1
    student.weights_P.add_(torch.tensor([0.2, 0.0]))
    torch.testing.assert_close(method.gradient(student, Lesson(None)), torch.tensor([3.0, 0.0]))


def test_si_credits_weights_with_the_loss_that_they_took_away() -> None:
    """From 1 to 0.9 at a slope of 2 is worth 0.2; over 0.01 + 0.1 of way that is 20 / 11."""
    student = Bowl([1.0, 1.0], [2.0, 0.0])
    method = si.SI(si.Config(strength=0.5, damping=0.1), student.weights_P)
    method.gradient(student, Lesson(None))
    student.weights_P[0] = 0.9
    method.consolidate(student, student.learned([0.0, 0.0]))
    torch.testing.assert_close(method.state()["importance"], torch.tensor([20 / 11, 0.0]))
    student.weights_P[0] = 1.0
    pulled_P = method.gradient(student, Lesson(None))
    torch.testing.assert_close(pulled_P, torch.tensor([2.0 + 0.1 * 20 / 11, 0.0]))


def test_agem_takes_away_what_points_against_the_memory_and_nothing_else() -> None:
    student = Bowl([1.0, 1.0], [1.0, 2.0])  # new gradient: (1, 2)
    method = agem.AGEM(agem.Config(memory=1, batch=1), luck())
    assert method.lesson(None).memories is None
    method.consolidate(student, student.learned([-1.0, 0.0]))
    found_P = method.gradient(student, method.lesson(None))
    torch.testing.assert_close(found_P, torch.tensor([0.0, 2.0]))
    method = agem.AGEM(agem.Config(memory=1, batch=1), luck())
    method.consolidate(student, student.learned([1.0, 0.0]))
    assert torch.equal(method.gradient(student, method.lesson(None)), torch.tensor([1.0, 2.0]))


def test_replay_weighs_what_is_new_and_what_is_remembered() -> None:
    student = Bowl([1.0, 1.0], [1.0, 2.0])
    method = replay.Replay(replay.Config(weight=0.2, memory=1, batch=1), luck())
    assert torch.equal(method.gradient(student, method.lesson(None)), torch.tensor([1.0, 2.0]))
    method.consolidate(student, student.learned([10.0, 0.0]))
    found_P = method.gradient(student, method.lesson(None))
    torch.testing.assert_close(found_P, torch.tensor([8.2, 0.4]))


def test_groups_share_a_memory_and_what_is_kept_was_kept_before() -> None:
    memory = Memory(10, luck())
    first = torch.arange(100.0)
    memory.add((first, -first), torch.repeat_interleave(torch.tensor([0, 1]), 50))
    assert memory.group_N.tolist() == [0] * 5 + [1] * 5
    before = set(memory.rows[0].tolist())
    memory.add((100 + first[:3], -100 - first[:3]), torch.full((3,), 2))
    assert memory.group_N.tolist() == [0] * 3 + [1] * 3 + [2] * 3
    assert set(memory.rows[0].tolist()) <= before | {100.0, 101.0, 102.0}
    assert torch.equal(memory.rows[0], -memory.rows[1])
    memory.add((-first, first), torch.zeros(100, dtype=torch.int64))  # known: nothing happens
    assert len(memory) == 9


def test_a_memory_that_groups_would_empty_is_refused() -> None:
    memory = Memory(2, luck())
    memory.add((torch.arange(4.0),), torch.tensor([0, 0, 1, 1]))
    with pytest.raises(TrialFailed, match=r"a row for each class or task .* has 2 for 3; raise it"):
        memory.add((torch.arange(2.0),), torch.tensor([2, 2]))
    assert len(memory) == 2


def test_a_sample_repeats_nothing_while_there_is_enough() -> None:
    memory = Memory(8, luck())
    assert memory.sample(4) is None
    memory.add((torch.arange(8.0),), torch.zeros(8, dtype=torch.int64))
    for _ in range(20):
        (sampled,) = memory.sample(8) or ()
        assert sorted(sampled.tolist()) == list(range(8))
    (sampled,) = memory.sample(30) or ()
    assert len(sampled) == 30


def test_a_memory_goes_on_where_it_was() -> None:
    one, other = Memory(8, luck()), Memory(8, luck(1))
    one.add((torch.arange(20.0),), torch.zeros(20, dtype=torch.int64))
    other.load({name: tensor.clone() for name, tensor in one.state().items()})
    assert torch.equal((one.sample(4) or ())[0], (other.sample(4) or ())[0])


def world(*classes: int) -> World:
    task = TaskSpec(name="digits", env="rigorl/Digits-v0", kwargs={"classes": classes})
    return open_world(task, 16, 0, {})


Taught = Callable[[Chosen], Tensor]


@pytest.fixture(scope="module")
def taught() -> Taught:
    """Teach zero and one, then two and three; return the weights."""
    worlds = [world(0, 1), world(2, 3)]

    def teach(method: Chosen, stages: int = 2) -> Tensor:
        agent = Classifier(Config(hidden=(10,), method=method), [64, 10, 10], 16, seed=3)
        for stage in range(stages):
            for _ in agent.learn(worlds[stage], Alone(), Span(stage, 0, 320)):
                pass
        return agent.weights_P

    return teach


@pytest.mark.parametrize(
    ("limit", "plain"),
    [
        (ewc.Config(strength=0.0), finetune.Config()),
        (si.Config(strength=0.0), finetune.Config()),
        (refresh.Config(base=replay.Config(), gamma=0.0), replay.Config()),
        (refresh.Config(base=lwf.Config(), gamma=0.0), lwf.Config()),
        (refresh.Config(base=finetune.Config(), gamma=0.0), finetune.Config()),
    ],
    ids=lambda method: type(method).__module__.rpartition(".")[2],
)
def test_at_its_limit_a_method_is_what_it_adds_to(
    taught: Taught, limit: Chosen, plain: Chosen
) -> None:
    assert torch.equal(taught(limit), taught(plain))


@pytest.mark.parametrize("method", EVERY, ids=lambda m: type(m).__module__.rpartition(".")[2])
def test_a_method_does_something_and_only_once_a_task_was_learned(
    taught: Callable[[Chosen, int], Tensor], method: Chosen
) -> None:
    plain = isinstance(method, finetune.Config)
    assert torch.equal(taught(method, 2), taught(finetune.Config(), 2)) == plain
    if not isinstance(method, refresh.Config):  # which unlearns from the beginning
        assert torch.equal(taught(method, 1), taught(finetune.Config(), 1))


def test_without_bound_on_its_damping_steady_is_replay(taught: Taught) -> None:
    damped_P = taught(steady.Config(memory=20, damping=1e9))
    torch.testing.assert_close(damped_P, taught(replay.Config(memory=20)), rtol=0, atol=1e-4)


@pytest.mark.parametrize("method", EVERY, ids=lambda m: type(m).__module__.rpartition(".")[2])
def test_what_a_method_saves_is_all_that_it_has(method: Chosen) -> None:
    """Two lives part nowhere, though one is saved and loaded into a newborn."""
    worlds = world(0, 1), world(2, 3)

    def born() -> tuple[Classifier, Method]:
        agent = Classifier(Config(hidden=(10,), method=method), [64, 10, 10], 16, seed=3)
        return agent, agent.method

    agent, _ = born()
    for _ in agent.learn(worlds[0], Alone(), Span(0, 0, 160)):
        pass
    other, newborn = born()
    other.weights_P.copy_(agent.weights_P)
    other.velocity_P.copy_(agent.velocity_P)
    other.met_C.copy_(agent.met_C)
    newborn.load({name: tensor.clone() for name, tensor in agent.method.state().items()})
    for each in (agent, other):
        for _ in each.learn(worlds[1], Alone(), Span(1, 0, 160)):
            pass
    assert torch.equal(agent.weights_P, other.weights_P)
