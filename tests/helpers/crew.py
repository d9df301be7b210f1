"""What a trial does with its crew, and what members do with its items, for tests/slow.

A *scene* is a function of a crew; `Trial`, an actor, plays it where a learner would. Members
import this module, so what they work on stands here.
"""

import itertools
import os
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import ray

from helpers.seeker import Constant
from helpers.trials import HALF, MINUS
from rigorl.contract import Crew
from rigorl.outside.on_ray import crew as on_ray
from rigorl.resources import Needs
from rigorl.spec import Budget, TaskSpec
from rigorl.tasks.exam import examine, order

CARTPOLE = TaskSpec(name="cartpole", env="CartPole-v1")


class Trial:
    """Ray actor: plays scenes with a crew in its placement group."""

    def __init__(self) -> None:
        self.crew: on_ray.RayCrew | None = None

    def play(self, scene: Callable[..., Any], size: int, needs: Needs, *args: Any) -> Any:
        """Play with the same crew as before, if it will do."""
        crew = self.crew
        if crew is None or crew._over or (crew.size, crew.needs) != (size, needs):
            if crew is not None:
                crew.close()
            self.crew = crew = on_ray.RayCrew(size, needs, first_bundle=1)
        return scene(crew, *args)


def here(seconds: float = 0.0) -> dict[str, Any]:
    time.sleep(seconds)
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    node = ray.get_runtime_context().get_node_id()
    threads = os.environ["OMP_NUM_THREADS"]
    return {"pid": os.getpid(), "node": node, "gpus": gpus, "threads": threads}


def places(crew: Crew) -> list[dict[str, Any]]:
    """Return where the members are, each once, by taking all of them at the same time."""
    seen: dict[int, dict[str, Any]] = {}
    while len(seen) < crew.size:
        seen.update((where["pid"], where) for where in crew.map(here, [0.05] * crew.size))
    return [seen[pid] for pid in sorted(seen)]


# -- order


def square_late(i: int) -> int:
    time.sleep(0.02 * (3 - i % 4))
    return i * i


def first_squares(crew: Crew) -> tuple[list[int], int]:
    """Take ten of infinitely many; return how many had to be known for it, too."""
    pulled = itertools.count()
    squares = crew.map(square_late, pulled)
    return [next(squares) for _ in range(10)], next(pulled)


# -- exams


def exams(crew: Crew) -> list[bytes]:
    """Examine policies through *crew*, each shared once."""
    budget = Budget(steps=40, exam_every=10, exam_episodes=20)
    policies = [Constant(0.1), Constant(0.7)]
    orders = [
        order(task, crew.share(policy), budget, seed=3)
        for task in (HALF, MINUS)
        for policy in policies
    ]
    orders.append(order(CARTPOLE, crew.share(Lean()), budget, seed=3))
    results = [(r.returns_EO.tolist(), r.diverged) for r in crew.map(examine, orders)]
    return [msgspec.msgpack.encode(result) for result in results]


class Lean:
    """Push the cart to where the pole leans, and wobble with luck of its own."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)

    def __call__(self, obs: Any) -> Any:
        wobble = self.rng.normal(0, 0.01, len(obs))
        return (obs[:, 2] + 0.3 * obs[:, 3] + wobble > 0).astype(np.int64)


# -- sharing


class Weighty:
    """Five megabytes that count how often they are packed."""

    packed = 0

    def __init__(self, content: bytes = b"") -> None:
        self.content = content or bytes(range(256)) * 20_000

    def __reduce__(self) -> tuple[Any, ...]:
        Weighty.packed += 1
        return Weighty, (self.content,)


class Part(NamedTuple):
    number: int
    weights: Any
    more: Mapping[str, Any]


def weigh(part: Part) -> tuple[int, int, bool]:
    """Return the weight, and whether it is one object wherever it stands."""
    return part.number, len(part.weights.content), part.more["deep"][0] is part.weights


def weigh_all(crew: Crew) -> tuple[list[Any], int, int]:
    weights = Weighty()
    parts = []
    for number in range(20):
        stand = crew.share(weights)
        parts.append(Part(number, stand, {"deep": [stand]}))
    results = list(crew.map(weigh, parts))
    sizes = [len(on_ray.pack((weigh, part)).order) for part in parts]
    return results, Weighty.packed, max(sizes)


def share_small_and_large(crew: Crew) -> list[bool]:
    """Say of a small value, and of a large one, whether it travels with its items."""
    values = [{"numbers": np.arange(10)}, {"numbers": np.arange(100_000)}]
    stands: list[Any] = [crew.share(value) for value in values]
    assert list(crew.map(total_of, [{"of": stand} for stand in stands])) == [45, 4_999_950_000]
    return [isinstance(stand.content, bytes) for stand in stands]


def total_of(item: Mapping[str, Any]) -> int:
    return int(item["of"]["numbers"].sum())


def share_again(crew: Crew) -> tuple[list[Any], list[bool]]:
    """Share values that come and go: a new one is never taken for one that is gone."""
    sums = []
    for number in range(50):
        held = {"number": number}
        counted = np.full(3, number)
        sums += [crew.submit(sum_up, {"a": crew.share(held), "b": crew.share(counted)}).result()]
        del held, counted
    kept = {"number": 1}
    same = [crew.share(kept) is crew.share(kept), crew.share([kept]) is crew.share([kept])]
    return sums, same


def sum_up(item: dict[str, Any]) -> int:
    return int(item["a"]["number"] + item["b"].sum())


def changed_afterwards(crew: Crew) -> list[int]:
    """Use one buffer for all items, as learners do."""
    buffer, futures = np.zeros(4, np.int64), []
    for number in range(8):
        buffer[:] = number
        futures.append(crew.submit(total, buffer))
    return [future.result() for future in futures]


def total(array: Any) -> int:
    time.sleep(0.02)
    array += 0  # an item is the member's own: it may be written to
    return int(array.sum())


# -- how much at a time


def hold(gate: Path) -> int:
    while not gate.exists():
        time.sleep(0.01)
    return 1


def held_back(crew: Crew, gate: Path) -> tuple[int, int]:
    """Return how many of a hundred items can be handed over while nothing moves, and then."""
    futures: list[Any] = []

    def hand_over() -> None:
        futures.extend(crew.submit(hold, gate) for _ in range(100))

    thread = threading.Thread(target=hand_over)
    crew.submit(abs, 1).result()
    thread.start()
    time.sleep(0.5)
    taken = len(futures)
    gate.touch()
    thread.join()
    return taken, sum(future.result() for future in futures)


def compute_meanwhile(crew: Crew) -> int:
    """Return how many of eight items are done after as long as they take, spent in Python."""
    places(crew)
    futures = [crew.submit(time.sleep, 0.1) for _ in range(8)]
    end = time.monotonic() + 0.8
    while time.monotonic() < end:
        sum(range(1000))
    return sum(future.done() for future in futures)


# -- the end


def close_early(crew: Any) -> tuple[list[int], list[bool], str]:
    """Close in mid-item; return processes, what was cancelled, and what is said then."""
    pids = leave(crew)
    futures = [crew.submit(time.sleep, 3600) for _ in range(4)]
    futures[-1].cancel()
    crew.close()
    try:
        crew.submit(abs, 1)
    except RuntimeError as error:
        return pids, [future.cancelled() for future in futures], str(error)
    return pids, [], ""


def leave(crew: Crew) -> list[int]:
    """Give out work for an hour; return who does it."""
    pids = sorted(where["pid"] for where in places(crew))
    for _ in pids:
        crew.submit(time.sleep, 3600)
    return pids
