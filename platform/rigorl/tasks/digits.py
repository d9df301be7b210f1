"""Handwritten digits as tasks: 1,797 images of 8 x 8 that come with scikit-learn.

Alpaydin, Kaynak 1998 (UCI). Some classes, or rotated images, make a sequence of tasks on which
continual learning can be checked in seconds. Pixels lie between -0.5 and 0.5.

Shapes: N images, D pixels.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from gymnasium.spaces import Box
from numpy.typing import NDArray
from scipy.ndimage import rotate  # type: ignore[import-untyped]
from sklearn.datasets import load_digits  # type: ignore[import-untyped]

from rigorl.tasks.examples import Examples, Supervised

CLASSES = 10


class Digits(Supervised):
    """*classes* are those that occur; *rotation* turns all images, in degrees.

    Of each class the share *held_out* is for exams, drawn by *split*: the same images whatever
    the other settings are, so that tasks of one trial share them.
    """

    def __init__(
        self,
        classes: Sequence[int] = tuple(range(CLASSES)),
        rotation: float = 0.0,
        held_out: float = 0.4,
        split: int = 0,
    ) -> None:
        if not classes or not set(classes) <= set(range(CLASSES)):
            raise ValueError(f"classes must be some of 0 to 9, but are {list(classes)}")
        if not 0 < held_out < 1:
            raise ValueError(f"held_out must be a share between 0 and 1, but is {held_out}")
        images_ND, label_N = _turned(float(rotation))
        parts = _parted(tuple(sorted(set(classes))), held_out, split)
        learned, kept = (Examples(images_ND[part], label_N[part]) for part in parts)
        space = Box(-0.5, 0.5, (images_ND.shape[1],), np.float32)
        super().__init__(learned, kept, space, CLASSES)


@cache
def _turned(degrees: float) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    bunch: Any = load_digits()
    images_NHW = bunch.images
    if degrees:
        images_NHW = rotate(images_NHW, degrees, axes=(2, 1), reshape=False, order=1)
    images_ND = images_NHW.reshape(len(images_NHW), -1) / 16 - 0.5
    return images_ND.astype(np.float32), bunch.target.astype(np.int64)


@cache
def _parted(
    classes: tuple[int, ...], share: float, split: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return which images are to be learned from, and which are for exams, class by class."""
    label_N = _turned(0.0)[1]
    order_N = np.random.default_rng(split).permutation(len(label_N))
    learned, kept = [], []
    for one in classes:
        mine = order_N[label_N[order_N] == one]
        count = round(share * len(mine))
        kept.append(mine[:count])
        learned.append(mine[count:])
    return np.concatenate(learned), np.concatenate(kept)
