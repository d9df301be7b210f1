"""Where an agent computes."""

import torch


def choose(gpus: float) -> torch.device:
    """Return the GPU if the trial was given one (or a share of one) and it is there.

    Ray shows a worker no other GPUs than its own. Where Ray was told of GPUs that are not
    there, as in tests of a cluster, the CPU does it.
    """
    return torch.device("cuda" if gpus > 0 and torch.cuda.is_available() else "cpu")
