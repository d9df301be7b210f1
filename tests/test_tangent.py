"""The Jacobian of a network: its products, and what a way held by it does."""

import pytest
import torch
from torch import Tensor
from torch.func import jacrev

from rigorl.agents.classifier import Batch, Classifier, Config
from rigorl.blocks.continual.steady import held
from rigorl.blocks.continual.tangent import Tangent
from rigorl.blocks.layers import carve
from rigorl.blocks.soft import outputs

SIZES = [5, 7, 6, 3]


@pytest.fixture
def student() -> Classifier:
    return Classifier(Config(hidden=(7, 6)), SIZES, 4, seed=0)


@pytest.fixture
def input_BD() -> Tensor:
    return torch.randn(4, 5, generator=torch.Generator().manual_seed(1))


def tangent(student: Classifier, input_BD: Tensor) -> Tangent:
    (only,) = student.tangents((input_BD,))
    return only


def jacobian_RP(student: Classifier, input_BD: Tensor) -> Tensor:
    by_torch: Tensor = jacrev(lambda weights_P: outputs(carve(weights_P, SIZES), input_BD))(
        student.weights_P
    )
    return by_torch.flatten(0, 1)


def test_products_are_those_with_the_jacobian_of_torch(
    student: Classifier, input_BD: Tensor
) -> None:
    J_RP, mine = jacobian_RP(student, input_BD), tangent(student, input_BD)
    way_P = torch.randn(J_RP.shape[1], generator=torch.Generator().manual_seed(2))
    pull_R = torch.randn(J_RP.shape[0], generator=torch.Generator().manual_seed(3))
    assert mine.size == J_RP.shape[1]
    torch.testing.assert_close(mine.kernel(), J_RP @ J_RP.t(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(mine.push(way_P), J_RP @ way_P, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(mine.pull(pull_R), J_RP.t() @ pull_R, rtol=1e-5, atol=1e-6)


def test_a_network_may_lie_anywhere_among_the_weights(
    student: Classifier, input_BD: Tensor
) -> None:
    mine = tangent(student, input_BD)
    way_P = torch.randn(mine.size, generator=torch.Generator().manual_seed(2))
    moved = Tangent(mine.parts, begin=9)
    assert torch.equal(moved.push(torch.cat([torch.ones(9), way_P])), mine.push(way_P))


def test_a_way_that_is_held_moves_no_answer_and_one_that_is_hardly_held_is_itself(
    student: Classifier, input_BD: Tensor
) -> None:
    mine = tangent(student, input_BD)
    way_P = torch.randn(mine.size, generator=torch.Generator().manual_seed(2))
    moved = mine.push(way_P).norm()
    firm_P = way_P - mine.pull(held(mine, way_P, damping=1e-4))
    assert mine.push(firm_P).norm() < 1e-2 * moved
    assert 0.1 * way_P.norm() < firm_P.norm() < way_P.norm()
    loose_P = way_P - mine.pull(held(mine, way_P, damping=1e6))
    torch.testing.assert_close(loose_P, way_P, rtol=1e-4, atol=1e-4)


def test_the_fisher_is_the_mean_square_of_the_gradients_of_its_own_answers(
    student: Classifier, input_BD: Tensor
) -> None:
    def log_prob_BC(weights_P: Tensor) -> Tensor:
        return torch.log_softmax(outputs(carve(weights_P, SIZES), input_BD), 1)

    slopes_BCP = jacrev(log_prob_BC)(student.weights_P)
    prob_BC = log_prob_BC(student.weights_P).exp()
    expected_P = (prob_BC[:, :, None] * slopes_BCP.square()).sum((0, 1)) / len(input_BD)
    batch = Batch(input_BD, torch.zeros(len(input_BD), dtype=torch.int64))
    torch.testing.assert_close(student.fisher(batch), expected_P, rtol=1e-4, atol=1e-7)


def test_gradients_are_those_of_the_cross_entropy(student: Classifier, input_BD: Tensor) -> None:
    label_B = torch.tensor([0, 2, 1, 2])

    def loss(weights_P: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(
            outputs(carve(weights_P, SIZES), input_BD), label_B
        )

    expected_P = jacrev(loss)(student.weights_P)
    torch.testing.assert_close(student.gradient(Batch(input_BD, label_B)), expected_P)
    counts_C = torch.tensor([1.0, 0.0, 1.0])
    target_BC = torch.tensor([[0.2, 0.0, 0.8]]).expand(4, -1)

    def over_two(weights_P: Tensor) -> Tensor:
        logits_BC = outputs(carve(weights_P, SIZES), input_BD)[:, [0, 2]]
        return -(target_BC[:, [0, 2]] * torch.log_softmax(logits_BC, 1)).sum(1).mean()

    rows = input_BD, target_BC, counts_C.expand(4, -1)
    torch.testing.assert_close(student.recall(rows), jacrev(over_two)(student.weights_P))
