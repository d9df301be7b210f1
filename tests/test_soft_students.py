"""SAC's actor and critics as students: held against autograd, and to what a method may expect."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from rigorl.blocks import soft_students
from rigorl.blocks.continual import Chosen, agem, ewc, finetune, lwf, refresh, replay, si, steady
from rigorl.blocks.layers import Layer, Net, parameters
from rigorl.blocks.soft import Steps, actor_loss, critic_loss, divergence, draw, outputs, values
from rigorl.blocks.soft_slopes import Acting, Judging
from rigorl.blocks.soft_students import ActorStudent, CriticsStudent
from rigorl.blocks.soft_update import On, Settings, Soft
from test_soft import differentiable, generator, some_steps

USUAL = Settings(lr=1e-2, discount=0.9, tau=0.1, target_every=1, target_entropy=-2.0)
METHODS: dict[str, Chosen] = {
    "replay": replay.Config(memory=20, batch=6),
    "ewc": ewc.Config(strength=10.0),
    "si": si.Config(strength=10.0),
    "lwf": lwf.Config(),
    "agem": agem.Config(memory=20, batch=6),
    "steady": steady.Config(memory=20, batch=6),
    "refresh": refresh.Config(),
}
BASES = ["replay", "ewc", "si", "lwf", "agem"]
N = 12


def soft(chosen: Chosen | None = None, on: On = "both", seed: int = 5) -> Soft:
    """Return three observations and two actions; some deviations are held at their bound."""
    one = Soft(3, 2, (8, 8), math.log(0.5), generator())
    one.actor[-1].weight_OI[3].mul_(5)
    one.actor[-1].bias_O[3] = 2.65
    if chosen is not None:
        one.teach(chosen, on, seed)
    return one


def students(one: Soft) -> tuple[ActorStudent, CriticsStudent]:
    return (
        ActorStudent(one.actor, one.critics, one._actor_flat),
        CriticsStudent(one.critics, one._critics_flat),
    )


def noise(size: int, seed: int = 3) -> Tensor:
    return torch.randn(2 * size, 2, generator=generator(seed))


def aims(one: Soft, size: int = N) -> tuple[Acting, Judging]:
    acting, judging = one._aims(some_steps(size), noise(size), 0.9)
    return acting._replace(version=one.weights._version), judging


def slope(loss: Tensor, *nets: Net, holes: bool = False) -> Tensor:
    grads = torch.autograd.grad(loss, parameters(nets), retain_graph=True, materialize_grads=holes)
    return torch.cat([grad.flatten() for grad in grads])


def near(mine: Tensor, book: Tensor) -> bool:
    return ((mine - book).norm() / book.norm()).item() < 1e-5


def moved(one: Soft, by: float = 0.02) -> None:
    one.weights.add_(torch.randn(len(one.weights), generator=generator(9)), alpha=by)


def test_gradients_are_those_of_the_losses_differentiated() -> None:
    one, steps = soft(), some_steps(N)
    acting, judging = aims(one)
    actor, *critics = differentiable(one.actor, *one.critics)
    drawn = draw(outputs(actor, steps.obs_BD), noise(N)[:N])
    loss = actor_loss(one.critics, acting.temperature, steps.obs_BD, drawn)
    student, judges = students(one)
    assert near(student.gradient(acting), slope(loss, actor))
    pair = (critics[0], critics[1])
    loss = critic_loss(pair, one.targets, one.actor, acting.temperature, steps, noise(N)[N:], 0.9)
    assert near(judges.gradient(judging), slope(loss, *critics))


def test_a_gradient_is_that_of_the_weights_as_they_are() -> None:
    """What the actor made of a batch before does not count once its weights are others."""
    one = soft()
    acting, _ = aims(one)
    student, _ = students(one)
    before = student.gradient(acting).clone()
    student.weights_P.mul_(1.5)
    there = student.gradient(acting).clone()
    assert not torch.allclose(there, before)
    fresh, _ = aims(one)
    assert torch.equal(student.gradient(fresh), there)


def test_the_divergence_of_normals_is_torchs() -> None:
    head_NX, was_NX = torch.randn(2, N, 4, generator=generator())
    normal = torch.distributions.Normal
    was, now = (normal(h[:, :2], h[:, 2:].exp()) for h in (was_NX, head_NX))
    wanted = torch.distributions.kl_divergence(was, now).sum(-1).mean()
    found = divergence(head_NX, was_NX[:, :2], was_NX[:, 2:])
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


def test_recall_is_the_slope_of_the_divergence_from_what_is_remembered() -> None:
    one = soft()
    acting, judging = aims(one)
    student, judges = students(one)
    mine, theirs = student.answers(acting), judges.answers(judging)
    moved(one)
    actor, *critics = differentiable(one.actor, *one.critics)
    head_NX = outputs(actor, mine[0])
    assert 0 < (head_NX[:, 2:] > 2).sum() < 2 * N  # some are held at their bound, and have none
    assert near(student.recall(mine), slope(divergence(head_NX, *mine[1:]), actor))
    seen_NI, *remembered = theirs
    said = [values(net, seen_NI[:, :3], seen_NI[:, 3:]) for net in critics]
    errors = [(now - was).square().mean() for now, was in zip(said, remembered, strict=True)]
    assert near(judges.recall(theirs), slope(0.5 * sum(errors, torch.zeros(())), *critics))


def test_where_answers_are_what_they_were_nothing_is_to_be_mended() -> None:
    one = soft()
    acting, judging = aims(one)
    student, judges = students(one)
    assert student.recall(student.answers(acting)).abs().max() < 1e-6
    assert not judges.recall(judges.answers(judging)).any()


def test_answers_do_not_depend_on_how_many_are_asked_at_a_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one = soft()
    student, _ = students(one)
    obs_ND = some_steps(N).obs_BD
    whole = student.reply(obs_ND)
    monkeypatch.setattr(soft_students, "CHUNK", 5)
    for part, other in zip(whole, student.reply(obs_ND), strict=True):
        np.testing.assert_allclose(part, other, rtol=1e-5, atol=1e-6)


def test_tangents_say_how_outputs_change_with_all_weights() -> None:
    one = soft()
    acting, judging = aims(one, 4)
    student, judges = students(one)
    actor, *critics = differentiable(one.actor, *one.critics)
    for who, rows, nets in (
        (student, student.answers(acting), [actor]),
        (judges, judges.answers(judging), critics),
    ):
        way_P = torch.randn(who.weights_P.shape, generator=generator(2))
        found = torch.cat([tangent.push(way_P) for tangent in who.tangents(rows)])
        outs = torch.cat([outputs(net, rows[0]).flatten() for net in nets])
        wanted = [slope(out, *nets, holes=True).dot(way_P) for out in outs]
        np.testing.assert_allclose(found, torch.stack(wanted), rtol=1e-4, atol=1e-5)


def squares(outs_NX: Tensor, weight_NX: Tensor, *nets: Net) -> Tensor:
    """Return the mean over rows of weighed squares of each row's slope, one row at a time."""
    found = torch.zeros(sum(p.numel() for p in parameters(nets)))
    for n in range(len(outs_NX)):
        for x in range(outs_NX.shape[1]):
            row_P = slope(outs_NX[n, x], *nets, holes=True)
            found += weight_NX[n, x] * row_P.square() / len(outs_NX)
    return found


def test_importances_are_the_mean_of_squared_slopes_of_each_row() -> None:
    one = soft()
    acting, judging = aims(one)
    student, judges = students(one)
    actor, *critics = differentiable(one.actor, *one.critics)
    head_NX = outputs(actor, acting.obs_2BD[:N])
    held_NA = head_NX[:, 2:] > 2
    assert 0 < held_NA.sum() < 2 * N
    log_std_NA = head_NX[:, 2:].clamp(max=2).detach()
    weight_NX = torch.cat([(-2 * log_std_NA).exp(), 2 * ~held_NA], 1)
    assert near(student.fisher(acting), squares(head_NX, weight_NX, actor))
    both_N2 = torch.stack(
        [values(net, judging.seen_BI[:, :3], judging.seen_BI[:, 3:]) for net in critics], 1
    )
    assert near(judges.fisher(judging), squares(both_N2, torch.ones(N, 2), *critics))


def test_importances_are_those_of_actions_that_it_draws_itself() -> None:
    """In closed form, what the likelihood's squared slope comes to over many draws."""
    torch_luck = generator(4)
    actor: Net = [Layer(0.5 * torch.randn(4, 1, generator=torch_luck), torch.zeros(4))]
    flat = torch.cat([part.flatten() for part in parameters([actor])])
    student = ActorStudent(actor, soft().critics, flat)
    obs_ND = torch.ones(1, 1)
    acting = Acting(torch.ones(2, 1), torch.zeros(2, 2), torch.ones(1), [], draw_of(actor), -1)
    head_NX = outputs(actor, obs_ND).expand(200_000, 4)
    mean_NA, log_std_NA = head_NX.chunk(2, -1)
    noise_NA = torch.randn(mean_NA.shape, generator=torch_luck)
    score_NX = torch.cat([noise_NA / log_std_NA.exp(), noise_NA.square() - 1], 1)
    wanted = score_NX.square().mean(0)
    np.testing.assert_allclose(student.fisher(acting), torch.cat([wanted, wanted]), rtol=0.03)


def draw_of(actor: Net) -> Any:
    return draw(outputs(actor, torch.ones(2, 1)), torch.zeros(2, 2))


# With methods.


def teach(one: Soft, updates: int, group: int, seed: int = 0) -> None:
    for i in range(updates):
        one.update(some_steps(N, 100 * group + i + seed), noise(N, i), USUAL)
    one.consolidate(some_steps(30, group), noise(10, group), 0.9, group)


@pytest.mark.parametrize(
    ("chosen", "same"),
    [
        (ewc.Config(strength=0.0), finetune.Config()),
        (si.Config(strength=0.0), finetune.Config()),
        *[(refresh.Config(base=METHODS[name], gamma=0.0), METHODS[name]) for name in BASES],
    ],
)
@pytest.mark.parametrize("on", ["actor", "both"])
def test_a_method_that_does_nothing_is_none(chosen: Any, same: Any, on: On) -> None:
    one, other = soft(chosen, on), soft(same, on)
    for group in range(3):
        teach(one, 4, group)
        teach(other, 4, group)
    assert torch.equal(one.weights, other.weights)


@pytest.mark.parametrize("chosen", [METHODS[name] for name in BASES], ids=BASES)
@pytest.mark.parametrize("on", ["actor", "both"])
def test_before_the_first_switch_there_is_nothing_to_hold_on_to(chosen: Chosen, on: On) -> None:
    one, plain = soft(chosen, on), soft()
    for i in range(5):
        told, same = (x.update(some_steps(N, i), noise(N, i), USUAL) for x in (one, plain))
        assert all(torch.equal(told[name], same[name]) for name in same)
    assert torch.equal(one.weights, plain.weights)
    for learner in (one, plain):
        teach(learner, 5, 0)
        teach(learner, 5, 1)
    assert not torch.equal(one._actor_flat, plain._actor_flat)


@pytest.mark.parametrize("chosen", METHODS.values(), ids=METHODS)
def test_the_critics_may_be_left_alone(chosen: Chosen) -> None:
    one, both = soft(chosen, "actor"), soft(chosen, "both")
    assert one.taught_critics is None
    assert both.taught_critics is not None
    for learner in (one, both):
        teach(learner, 4, 0)
    acting, _ = aims(one)
    before = one._critics_flat.clone()
    one._improve_actor(acting, 0.1)
    assert torch.equal(one._critics_flat, before)
    assert {"actor-method"} == {name for name in one.state() if "method" in name}
    assert {"actor-method", "critic-method"} == {n for n in both.state() if "method" in n}


def test_actor_and_critics_do_not_share_their_luck() -> None:
    one = soft(replay.Config(memory=10), "both")
    teach(one, 1, 0)
    assert one.taught_actor is not None
    assert one.taught_critics is not None
    mine, theirs = (
        t.method.state()["column0"][:, :3] for t in (one.taught_actor, one.taught_critics)
    )
    assert not torch.equal(mine, theirs)


@pytest.mark.parametrize("chosen", METHODS.values(), ids=METHODS)
def test_what_was_saved_goes_on_as_if_nothing_had_happened(chosen: Chosen) -> None:
    one, heir = soft(chosen), soft(chosen, seed=6)
    teach(one, 3, 0)
    teach(one, 3, 1)
    heir.load(
        {name: {k: t.clone() for k, t in group.items()} for name, group in one.state().items()}
    )
    for learner in (one, heir):
        teach(learner, 3, 2)
    for name, group in one.state().items():
        assert all(torch.equal(t, heir.state()[name][k]) for k, t in group.items())


def test_cloning_keeps_the_old_answers_where_finetuning_loses_them() -> None:
    old = some_steps(30, 0).obs_BD
    lost = {}
    for name, chosen in (
        ("none", finetune.Config()),
        ("clone", replay.Config(weight=0.1, memory=30)),
    ):
        one = soft(chosen, "actor")
        teach(one, 30, 0)
        rows = students(one)[0].reply(old)
        for i in range(60):
            steps = some_steps(N, 500 + i)
            one.update(Steps(steps.obs_BD + 2, *steps[1:]), noise(N, i), USUAL)
        lost[name] = divergence(outputs(one.actor, old), *rows[1:]).item()
    assert lost["clone"] < 0.2 * lost["none"]
