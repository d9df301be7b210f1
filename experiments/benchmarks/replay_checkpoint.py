"""Measure what a checkpoint of SAC costs: what is new, however much is in its replay.

    python experiments/benchmarks/replay_checkpoint.py [--new 50000]

The replay is filled with transitions as wide as HalfCheetah-v5's. At each size a checkpoint is
written after *new* more: sharing the segments of the one before, and for comparison whole. Prints
medians over repeats.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np
from gymnasium.spaces import Box

from rigorl import checkpoint
from rigorl.agents import sac
from rigorl.checkpoint import Folder, Place
from rigorl.tasks.world import WorldSpec

HERE = Path(__file__).parent
N_OBS, N_ACTIONS = 17, 6
SIZES = (50_000, 200_000, 500_000, 1_000_000, 1_500_000)


def fill(agent: sac.SAC, count: int) -> None:
    rng = np.random.default_rng(0)
    for _ in range(count // 1_000):
        obs_ED, next_obs_ED = rng.normal(size=(2, 1_000, N_OBS))
        action_EA = rng.uniform(-1, 1, (1_000, N_ACTIONS))
        agent.replay.add(obs_ED, action_EA, next_obs_ED, obs_ED[:, 0], obs_ED[:, 0] > 2)


def written(folder: Path, known: set[int]) -> int:
    """Return the bytes of *folder* in files that are not among the inodes *known*."""
    stats = [path.stat() for path in folder.iterdir()]
    return sum(stat.st_size for stat in stats if stat.st_ino not in known)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--new", type=int, default=50_000)
    parser.add_argument("--repeats", type=int, default=3)
    args = parser.parse_args()
    spaces = Box(-np.inf, np.inf, (N_OBS,)), Box(-1.0, 1.0, (N_ACTIONS,))
    agent = sac.make(sac.Config(), WorldSpec(*spaces, 1, ()), 0)
    last, number = None, 0
    print("| transitions | sharing, ms | written, MB | whole, ms | written, MB |\n|" + " --- |" * 5)
    with tempfile.TemporaryDirectory(dir=HERE, prefix=".storage-") as folder:
        storage, store = Path(folder), Folder(Path(folder))
        for size in SIZES:
            fill(agent, size - args.new - agent.replay.added)
            last = checkpoint.write(store, Place(step=number), agent.save, last)
            seen = []
            for _ in range(args.repeats):
                fill(agent, args.new)
                for since in (None, last):  # the one that shares stays
                    known = {path.stat().st_ino for path in (storage / last).iterdir()}
                    number += 1
                    clock = time.perf_counter()
                    new = checkpoint.write(store, Place(step=number), agent.save, since)
                    seen.append((time.perf_counter() - clock, written(storage / new, known)))
                    os.sync()
                last = new
            (whole, all_bytes), (share, new_bytes) = (
                np.median(np.array(seen[start::2]), axis=0) for start in (0, 1)
            )
            print(
                f"| {size:,} | {share * 1e3:.0f} | {new_bytes / 1e6:.1f} "
                f"| {whole * 1e3:.0f} | {all_bytes / 1e6:.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
