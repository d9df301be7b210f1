"""Classifier: a network learns labelled examples by stochastic gradient descent with momentum.

It is there to check continual learning against what is known of it (De Lange, van de Ven,
Tuytelaars 2023), in seconds. A step is an example: each update learns from as many new ones as
there are environments (`budget.num_envs`). Each epoch goes through the examples in another order,
and leaves out those at its end that fill no batch.

All tasks share one head of outputs: which task an input belongs to is never told.

Shapes: P weights, B batch, N rows, D inputs, C classes.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
import torch
from gymnasium.spaces import Box, Discrete
from msgspec import Meta, Struct
from numpy.typing import NDArray
from torch import Tensor

from rigorl.blocks.continual import Chosen, Learned, Rows, begin, finetune
from rigorl.blocks.continual.tangent import Tangent, of_relu
from rigorl.blocks.layers import carve, forward, initialise, slopes, weight_slopes, widths
from rigorl.blocks.storage import load_groups, save_groups
from rigorl.contract import Crew, Progress, Span
from rigorl.errors import SpecError
from rigorl.seeds import integer, stream
from rigorl.tasks.examples import Examples
from rigorl.tasks.world import Policy, World, WorldSpec

Count = Annotated[int, Meta(gt=0)]
IN_FLIGHT = frozenset({"lr", "momentum"})
"""Settings that may change while it learns: what it saves does not rest on them."""


class Config(Struct, frozen=True, forbid_unknown_fields=True):
    lr: Annotated[float, Meta(gt=0)] = 0.05
    momentum: Annotated[float, Meta(ge=0, lt=1)] = 0.9
    hidden: tuple[Count, ...] = (100,)
    method: Chosen = finetune.Config()
    """Against forgetting."""
    reset_optimizer_at_switch: bool = False
    """Whether the momentum is forgotten when another task begins."""


class Batch(NamedTuple):
    input_BD: Tensor
    label_B: Tensor


def make(config: Config, world: WorldSpec, seed: int) -> "Classifier":
    action, obs = world.action, world.observation
    if not (world.examples and isinstance(obs, Box) and isinstance(action, Discrete)):
        raise SpecError(
            "classifier must have labelled examples to learn from, but a task has none; use "
            "rigorl/Digits-v0 or another environment that is `Supervised`, or another agent"
        )
    sizes = [math.prod(obs.shape), *config.hidden, int(action.n)]
    return Classifier(config, sizes, world.num_envs, seed)


class Classifier:
    def __init__(self, config: Config, sizes: list[int], batch: int, seed: int) -> None:
        self.config, self.sizes, self.batch, self.seed = config, sizes, batch, seed
        self.weights_P = torch.zeros(sum(widths(sizes)))
        self.net = carve(self.weights_P, sizes)
        initialise(self.net, torch.Generator().manual_seed(integer(seed, "weights")))
        self.velocity_P = torch.zeros_like(self.weights_P)
        self.met_C = torch.zeros(sizes[-1])
        """1 for classes of tasks that were learned."""
        self.method = begin(config.method, self.weights_P, seed)
        self.updates = 0

    def learn(self, world: World, crew: Crew, span: Span) -> Iterator[Progress]:
        del crew
        if world.examples is None:
            raise TypeError("classifier was given a world without examples")
        if span.start == 0 and span.stage > 0 and self.config.reset_optimizer_at_switch:
            self.velocity_P.zero_()
        step = span.start
        while step < span.stop:
            lesson = self.method.lesson(self._next(world.examples, span.stage, step))
            self.velocity_P.mul_(self.config.momentum).add_(self.method.gradient(self, lesson))
            self.weights_P.sub_(self.velocity_P, alpha=self.config.lr)
            self.updates += 1
            step = min(step + self.batch, span.stop)
            yield Progress(step, self.updates, {"loss": self._loss(lesson.batch)})
        self._consolidate(world.examples, span.stage)

    def _next(self, examples: Examples, stage: int, step: int) -> Batch:
        """Return the batch that begins at *step*: a function of it and the seed alone."""
        count = len(examples.label_N)
        size = min(self.batch, count)
        epoch, at = divmod(step // self.batch, count // size)
        order_N = np.random.default_rng(stream(self.seed, "order", stage, epoch)).permutation(count)
        rows_B = order_N[at * size : (at + 1) * size]
        return Batch(*(torch.from_numpy(part[rows_B]) for part in examples))

    def _consolidate(self, examples: Examples, stage: int) -> None:
        """Each class of each task has a share of the memory."""
        whole = Batch(*map(torch.from_numpy, examples))
        self.met_C[whole.label_B] = 1.0
        target_NC = torch.nn.functional.one_hot(whole.label_B, self.sizes[-1]).float()
        group_N = whole.label_B + stage * self.sizes[-1]
        rows = whole.input_BD, target_NC, torch.ones_like(target_NC)
        self.method.consolidate(self, Learned(whole, rows, group_N))

    @torch.no_grad()
    def _loss(self, batch: Batch) -> float:
        logits_BC = forward(self.net, batch.input_BD)[-1]
        return float(torch.nn.functional.cross_entropy(logits_BC, batch.label_B))

    def gradient(self, batch: Batch) -> Tensor:
        """Return grad_P of the cross entropy."""
        target_BC = torch.nn.functional.one_hot(batch.label_B, self.sizes[-1])
        return self._slope(batch.input_BD, target_BC.float(), torch.ones(self.sizes[-1]))

    def recall(self, rows: Rows) -> Tensor:
        """Return grad_P of the cross entropy with remembered answers, over classes that count."""
        return self._slope(*rows)

    def _slope(self, input_BD: Tensor, target_BC: Tensor, counts_BC: Tensor) -> Tensor:
        through = forward(self.net, input_BD)
        prob_BC = torch.softmax(through[-1] + counts_BC.log(), 1)
        back = slopes(self.net, through, (prob_BC - target_BC) / len(input_BD))
        return torch.cat([part.flatten() for part in weight_slopes(through, back)])

    def answers(self, batch: Batch) -> Rows:
        """Return inputs, the probability of each class among those met, and which these are."""
        counts_BC = self.met_C.expand(len(batch.label_B), -1)
        logits_BC = forward(self.net, batch.input_BD)[-1]
        return batch.input_BD, torch.softmax(logits_BC + counts_BC.log(), 1), counts_BC

    def fisher(self, batch: Batch) -> Tensor:
        """Return fisher_P: the expectation over the network's own answers, not over the labels."""
        through = forward(self.net, batch.input_BD)
        prob_BC = torch.softmax(through[-1], 1)
        fisher_P = torch.zeros_like(self.weights_P)
        for one in range(self.sizes[-1]):
            slope_BC = prob_BC.clone()
            slope_BC[:, one] -= 1.0
            slope_BC *= prob_BC[:, one, None].sqrt()
            back = slopes(self.net, through, slope_BC)
            squares = weight_slopes([x.square() for x in through], [d.square() for d in back])
            fisher_P += torch.cat([part.flatten() for part in squares])
        return fisher_P / len(batch.label_B)

    def tangents(self, rows: Rows) -> list[Tangent]:
        """Return how the logits at what *rows* ask change with the weights."""
        return [of_relu(self.net, rows[0])]

    def policies(self) -> Mapping[str, Policy]:
        return {"classifier": Likeliest(self.weights_P.clone(), self.sizes)}

    def save(self, folder: Path) -> None:
        own = {"weights": self.weights_P, "velocity": self.velocity_P, "met": self.met_C}
        groups = {"own": own, "method": dict(self.method.state())}
        save_groups(groups, folder / "classifier.safetensors")
        (folder / "classifier.json").write_bytes(msgspec.json.encode(self.updates))

    def load(self, folder: Path) -> None:
        groups = load_groups(folder / "classifier.safetensors")
        self.weights_P.copy_(groups["own"]["weights"])
        self.velocity_P.copy_(groups["own"]["velocity"])
        self.met_C.copy_(groups["own"]["met"])
        self.method.load(groups.get("method", {}))
        self.updates = msgspec.json.decode((folder / "classifier.json").read_bytes(), type=int)


class Likeliest:
    """The class that a network finds likeliest."""

    def __init__(self, weights_P: Tensor, sizes: list[int]) -> None:
        self.weights_P, self.sizes = weights_P, sizes

    def __call__(self, obs: NDArray[Any], /) -> NDArray[Any]:
        input_BD = torch.from_numpy(obs.reshape(len(obs), -1).astype(np.float32, copy=False))
        answer_B: NDArray[Any] = (
            forward(carve(self.weights_P, self.sizes), input_BD)[-1].argmax(1).numpy()
        )
        return answer_B

    def save(self, folder: Path) -> None:
        save_groups({"net": {"weights": self.weights_P}}, folder / "classifier.safetensors")
        (folder / "classifier.json").write_bytes(msgspec.json.encode(self.sizes))


def load_policy(folder: Path) -> Likeliest:
    """Return the policy that `Likeliest.save` wrote into *folder*."""
    sizes = msgspec.json.decode((folder / "classifier.json").read_bytes(), type=list[int])
    return Likeliest(load_groups(folder / "classifier.safetensors")["net"]["weights"], sizes)
