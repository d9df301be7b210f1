"""What both players and their critic learn of a minibatch is what autograd finds."""

import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from torch import nn

from rigorl.blocks.actor_critic import surrogate
from rigorl.blocks.game import Lesson, Lost, Players, Sizes, Turns

LESSON = Lesson(32, 1, 0.2, 1e-3, 1e-3, 0.5, entropy_coef=0.01, push_entropy_coef=0.02)
SIZES = Sizes(3, 2, (8,), (6,), (7, 5), -0.3, -0.7)


def made(space: Box | Discrete, *, odd: bool = False) -> tuple[Players, Turns]:
    players = Players(space, SIZES, 1e-5, torch.Generator().manual_seed(1), odd=odd)
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    obs_BD, push_BF = normal(32, 3), normal(32, 2)
    action = normal(32, 2) if isinstance(space, Box) else rng.integers(2, size=32)
    log_probs = (
        head.judge(obs_BD, rows)[0] + 0.3 * normal(32)
        for head, rows in ((players.acts, action), (players.pushes, push_BF))
    )
    acted_B, pushed_B = log_probs
    weight_B2 = np.abs(normal(32, 2))
    return players, Turns(
        obs_BD, action, acted_B, normal(32), push_BF, pushed_B, normal(32), normal(32, 2), weight_B2
    )


@pytest.mark.parametrize("space", [Box(-1, 1, (2,)), Discrete(2)])
def test_the_gradients_are_those_of_autograd(space: Box | Discrete) -> None:
    players, turns = made(space)
    lost = players.gradient(turns, LESSON)
    written = [flat.grad.clone() for flat in (players.flat, players.push_flat)]
    t = Turns(*(torch.from_numpy(rows) for rows in turns))
    critic = as_torch(players)
    losses = []
    for actor, action, before_B, gain_B, coef in (
        (players.actor, t.action, t.log_prob_B, t.advantage_B, 0.01),
        (players.disturber, t.push_BF, t.push_log_prob_B, t.push_advantage_B, 0.02),
    ):
        log_prob_B, entropy = actor.judge(t.obs_BD, action)
        loss = -surrogate(torch.exp(log_prob_B - before_B), gain_B, 0.2)
        losses += [(loss, entropy, loss - coef * entropy)]
    heads_2 = (t.weight_B2 * (critic(t.obs_BD) - t.return_B2).square()).mean(0)
    (actor_loss, entropy, a), (push_loss, push_entropy, b) = losses
    theirs = (actor_loss, push_loss, *heads_2, entropy, push_entropy)
    expected = Lost(*(float(torch.as_tensor(one).detach()) for one in theirs))
    for name, mine in lost._asdict().items():
        assert mine == pytest.approx(getattr(expected, name), rel=1e-4, abs=1e-6), name
    players.flat.grad.zero_()
    players.push_flat.grad.zero_()
    (a + b + heads_2.sum()).backward()
    mine, found = written[0], players.flat.grad
    actors = len(mine) - sum(p.numel() for p in critic.parameters())
    assert torch.allclose(mine[:actors], found[:actors], atol=1e-5)
    slopes = torch.cat([p.grad.flatten() for p in critic.parameters()])  # type: ignore[union-attr]
    assert torch.allclose(mine[actors:], slopes, atol=1e-5)
    assert torch.allclose(written[1], players.push_flat.grad, atol=1e-5)
    assert all(float(grad.abs().max()) > 1e-3 for grad in written)


def as_torch(players: Players) -> nn.Sequential:
    """Return the critic as torch has it, with the same weights."""
    layers: list[nn.Module] = []
    for layer in players.critic.layers:
        linear = nn.Linear(*reversed(layer.weight_OI.shape))
        linear.weight.data = torch.from_numpy(layer.weight_OI.copy())
        linear.bias.data = torch.from_numpy(layer.bias_O.copy())
        layers += [linear, nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def test_biases_of_an_odd_actor_stay_where_they_are() -> None:
    players, turns = made(Box(-1, 1, (2,)), odd=True)
    players.gradient(turns, LESSON)
    biases = [layer.bias for layer in players.actor.mean if isinstance(layer, nn.Linear)]
    assert all(not bias.grad.any() and not bias.any() for bias in biases)
    assert players.actor.mean[0].weight.grad.abs().max() > 0


def test_an_epoch_sees_every_row_once_and_the_last_minibatch_says_so() -> None:
    players, turns = made(Box(-1, 1, (2,)))
    seen = []
    gradient = players.gradient
    players.gradient = lambda part, how: (seen.append(part.advantage_B), gradient(part, how))[1]
    lesson = LESSON._replace(minibatch=20, epochs=2)
    told = list(players.learn(turns, lesson, torch.Generator().manual_seed(0)))
    assert [len(rows) for rows in seen] == [20, 12, 20, 12]
    assert np.array_equal(np.sort(np.concatenate(seen[:2])), np.sort(turns.advantage_B))
    assert [last for _, last in told] == [False, False, False, True]
    assert players.updates == 4
