"""Forces squashed into what a port allows, and random ones."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from hypothesis.extra.numpy import arrays

from rigorl.blocks.forces import Random, log_volume, squash


@given(arrays(np.float64, 2, elements=some.floats(-3, 3)))
def test_the_volume_of_a_squashed_push_is_its_jacobian(push_F: Any) -> None:
    ways_FF = 1e-5 * np.eye(2)
    above_FF, below_FF = squash(push_F + ways_FF, 5.0), squash(push_F - ways_FF, 5.0)
    volume = np.linalg.slogdet((above_FF - below_FF) / 2e-5).logabsdet
    assert log_volume(push_F[None], 5.0)[0] == pytest.approx(volume, abs=1e-5)


def test_densities_of_forces_add_up_to_1() -> None:
    """In one dimension: the integral of exp(log_prob(push) - log_volume) over forces."""
    push_B = np.linspace(-9, 9, 20_001)
    force_B = squash(push_B[:, None], 5.0)[:, 0]
    log_prob_B = -0.5 * push_B**2 - 0.5 * math.log(2 * math.pi)
    density_B = np.exp(log_prob_B - log_volume(push_B[:, None], 5.0))
    assert np.trapezoid(density_B, force_B) == pytest.approx(1.0, abs=1e-3)


def test_a_force_never_exceeds_its_limit() -> None:
    push_BF = np.random.default_rng(0).normal(size=(100_000, 3)) * 10
    norm_B = np.linalg.norm(squash(push_BF, 30.0), axis=1)
    assert norm_B.max() <= 30.0
    assert norm_B.min() > 0
    assert np.isfinite(squash(np.zeros((1, 3)), 30.0)).all()


@pytest.mark.parametrize("kind", ["ball", "normal"])
def test_random_forces_are_within_what_is_allowed_and_held(kind: Any) -> None:
    random = Random(scale=0.8, hold=3, kind=kind)
    force_TEF = random.draw((10, 500, 2), torch.Generator().manual_seed(0))
    norm_TE = np.linalg.norm(force_TEF, axis=2)
    assert norm_TE.max() <= (0.8 if kind == "ball" else 1.0) + 1e-6
    assert np.array_equal(force_TEF[0], force_TEF[2])
    assert not np.array_equal(force_TEF[2], force_TEF[3])
    assert force_TEF.mean((0, 1)) == pytest.approx(0.0, abs=0.1)
    if kind == "ball":  # evenly: half of the area lies outside of 0.707 of the radius
        assert (norm_TE > 0.8 * 0.5**0.5).mean() == pytest.approx(0.5, abs=0.05)
