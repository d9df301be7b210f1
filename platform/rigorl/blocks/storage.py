"""Groups of tensors in one safetensors file: `actor.0.weight` is `0.weight` of `actor`."""

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file, save
from torch import Tensor

Groups = Mapping[str, Mapping[str, Tensor]]


def save_groups(groups: Groups, path: Path) -> None:
    """Write *groups*, whose names hold no dot, to *path*."""
    # `save_file` would say that the disk is full with an error of its own.
    path.write_bytes(
        save({f"{name}.{key}": t for name, group in groups.items() for key, t in group.items()})
    )


def load_groups(path: Path) -> dict[str, dict[str, Tensor]]:
    """Return what `save_groups` wrote; a group that was empty is missing."""
    groups: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for name, tensor in load_file(path).items():
        group, _, key = name.partition(".")
        groups[group][key] = tensor
    return dict(groups)
