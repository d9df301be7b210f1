"""Actions that tanh squashes into a box, and the policy that does what is likeliest."""

import copy
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rigorl.blocks.layers import Net, carve, forward, parameters
from rigorl.blocks.soft import draw
from rigorl.blocks.storage import load_groups, save_groups


class Bounds:
    """A box; -1 and 1 are its ends."""

    def __init__(self, low: NDArray[Any], high: NDArray[Any]) -> None:
        self.low, self.high = low, high

    def stretch(self, action_EA: NDArray[Any]) -> NDArray[Any]:
        """Return flat actions between -1 and 1 as the box has them: shape, type and bounds."""
        share = 0.5 * (action_EA.reshape(-1, *self.low.shape) + 1)
        action: NDArray[Any] = self.low + share * (self.high - self.low)
        # Rounding must not lead out of the box.
        return action.clip(self.low, self.high).astype(self.low.dtype, copy=False)


def act(actor: Net, obs_BD: Tensor, noise_BA: Tensor) -> Tensor:
    """Return actions between -1 and 1."""
    return draw(forward(actor, obs_BD)[-1], noise_BA).action_BA


def mode(actor: Net, obs_BD: Tensor) -> Tensor:
    """Return the actions that the undisturbed actor takes, between -1 and 1."""
    return forward(actor, obs_BD)[-1].chunk(2, -1)[0].tanh()


class SquashedPolicy:
    """The mean action, squashed. Holds a copy of *actor*."""

    def __init__(self, actor: Net, bounds: Bounds) -> None:
        self.sizes = [layer.weight_OI.shape[1] for layer in actor] + [len(actor[-1].bias_O)]
        self.flat = torch.cat([tensor.flatten() for tensor in parameters([actor])])
        self.bounds = copy.deepcopy(bounds)

    def __call__(self, obs: NDArray[Any], /) -> NDArray[Any]:
        obs_BD = torch.from_numpy(obs.reshape(len(obs), -1).astype(np.float32))
        with torch.no_grad():
            return self.bounds.stretch(mode(carve(self.flat, self.sizes), obs_BD).numpy())

    def save(self, folder: Path) -> None:
        box = {"low": torch.tensor(self.bounds.low), "high": torch.tensor(self.bounds.high)}
        save_groups({"actor": {"flat": self.flat}, "box": box}, folder / "squashed.safetensors")
        (folder / "squashed.json").write_bytes(msgspec.json.encode(self.sizes))


def load_policy(folder: Path) -> SquashedPolicy:
    """Return the policy that `SquashedPolicy.save` wrote into *folder*."""
    groups = load_groups(folder / "squashed.safetensors")
    sizes = msgspec.json.decode((folder / "squashed.json").read_bytes(), type=list[int])
    low, high = (groups["box"][end].numpy() for end in ("low", "high"))
    return SquashedPolicy(carve(groups["actor"]["flat"], sizes), Bounds(low, high))
