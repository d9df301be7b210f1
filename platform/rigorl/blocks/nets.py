"""Networks whose first weights depend on a generator and nothing else."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn

# One trial, one core. With another number of threads torch adds in another order, and a run
# would no longer be, to the bit, the same in this process, in a Ray actor and elsewhere.
torch.set_num_threads(1)


def mlp(sizes: Sequence[int], gain: float, generator: torch.Generator) -> nn.Sequential:
    """Return a tanh network from *sizes*[0] inputs to *sizes*[-1] linear outputs.

    Weights are orthogonal (Saxe, McClelland, Ganguli 2014), scaled by sqrt(2) and, in the
    last layer, by *gain*; biases are zero.
    """
    gains = [2**0.5] * (len(sizes) - 2) + [gain]
    layers: list[nn.Module] = []
    for (n_in, n_out), scale in zip(pairwise(sizes), gains, strict=True):
        # Its own initialisation draws from the global stream. `skip_init` would not, but
        # imports sympy: 0.7 s in each process.
        with torch.random.fork_rng(devices=[]):
            linear = nn.Linear(n_in, n_out)
        nn.init.orthogonal_(linear.weight, scale, generator=generator)
        nn.init.zeros_(linear.bias)
        layers += [linear, nn.Tanh()]
    return nn.Sequential(*layers[:-1])
