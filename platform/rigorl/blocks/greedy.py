"""A policy that does what its actor finds likeliest."""

import copy
import math
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
import torch
from gymnasium.spaces import Box, Discrete
from msgspec import Struct
from numpy.typing import NDArray
from torch import Tensor

from rigorl.blocks.actors import Actor, make_actor
from rigorl.blocks.normalize import ObsScale
from rigorl.blocks.storage import load_groups, save_groups


class GreedyPolicy:
    """The likeliest action, on observations scaled as they were when *actor* was copied.

    Until it acts it is a few arrays, for most act in another process than they are made in, and
    torch takes 1 ms to copy a network and 5 ms to pickle it.
    """

    def __init__(self, actor: Actor, obs_scale: ObsScale) -> None:
        self.space, self.hidden = actor.space, actor.hidden
        self.weights = {
            name: tensor.detach().cpu().numpy().copy()
            for name, tensor in actor.state_dict().items()
        }
        self.obs_scale = copy.deepcopy(obs_scale)

    def __call__(self, obs: NDArray[Any], /) -> NDArray[Any]:
        obs_BD = torch.from_numpy(self.obs_scale(obs))
        return self.actor.for_env(self.actor.mode(obs_BD).numpy())

    @cached_property
    def actor(self) -> Actor:
        n_obs = len(self.obs_scale.moments.mean_D)
        actor = make_actor(self.space, n_obs, self.hidden, torch.Generator())
        actor.load_state_dict(self._tensors())
        return actor.requires_grad_(requires_grad=False)

    def _tensors(self) -> dict[str, Tensor]:
        return {name: torch.tensor(array) for name, array in self.weights.items()}

    def __getstate__(self) -> dict[str, Any]:
        return {name: part for name, part in vars(self).items() if name != "actor"}

    def save(self, folder: Path) -> None:
        scale, space = self.obs_scale, self.space
        groups = {"obs": scale.moments.state(), "actor": self._tensors()}
        if isinstance(space, Box):
            groups["box"] = {"low": torch.tensor(space.low), "high": torch.tensor(space.high)}
        kept = _Kept(
            hidden=self.hidden,
            obs_clip=scale.clip if scale.on else None,
            choices=(int(space.n), int(space.start)) if isinstance(space, Discrete) else None,
        )
        save_groups(groups, folder / "greedy.safetensors")
        (folder / "greedy.json").write_bytes(msgspec.json.encode(kept))


class _Kept(Struct, frozen=True):
    """What a policy is, beside its tensors.

    Without `choices` (how many, from which on) it acts in the box that is among the tensors.
    """

    hidden: tuple[int, ...]
    obs_clip: float | None
    choices: tuple[int, int] | None


def load_policy(folder: Path) -> GreedyPolicy:
    """Return the policy that `GreedyPolicy.save` wrote into *folder*."""
    kept = msgspec.json.decode((folder / "greedy.json").read_bytes(), type=_Kept)
    groups = load_groups(folder / "greedy.safetensors")
    space: Box | Discrete[Any]
    if kept.choices is None:
        low, high = groups["box"]["low"].numpy(), groups["box"]["high"].numpy()
        space = Box(low, high, dtype=low.dtype.type)
    else:
        space = Discrete(kept.choices[0], start=kept.choices[1])
    n_obs = len(groups["obs"]["mean"])
    obs_scale = ObsScale(n_obs, kept.obs_clip or math.inf, on=kept.obs_clip is not None)
    obs_scale.moments.load(groups["obs"])
    actor = make_actor(space, n_obs, kept.hidden, torch.Generator())
    actor.load_state_dict(groups["actor"])
    return GreedyPolicy(actor, obs_scale)
