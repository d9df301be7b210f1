"""Who looks on at an exam sees what was scored; what is drawn of it is in slow/."""

import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from PIL import Image

from helpers.leaner import Lean
from rigorl import filming
from rigorl.errors import SpecError, Stopped
from rigorl.outside import film
from rigorl.ports import PortSpec
from rigorl.spec import TaskSpec
from rigorl.tasks.exam import CHUNK, Exam, examine
from rigorl.tasks.seen import Moment, look_on

HOPPER = TaskSpec(
    name="hopper", env="Hopper-v5", port=PortSpec(bodies=("torso",), limit=50.0, best=0.0)
)
SEEDS = tuple(range(CHUNK + 2))


def exam(newtons: float = 20.0, task: TaskSpec = HOPPER, horizon: int | None = 30) -> Exam:
    return Exam(task, Lean(newtons, 2, 3), SEEDS, horizon)


def earned(moments: list[Moment]) -> float:
    total = 0.0
    for moment in moments:
        total += moment.reward
    return total


@pytest.mark.parametrize("task", [HOPPER, replace(HOPPER, engine="gymnasium", port=None)])
def test_an_episode_that_is_looked_at_earns_what_its_exam_says(task: TaskSpec) -> None:
    taken = exam(task=task) if task.port else Exam(task, Calm(), SEEDS, 30)
    returns = examine(taken).returns_EO[:, 0].tolist()
    assert len(set(returns)) == len(SEEDS)
    for episode in (0, 3, CHUNK + 1):
        moments = list(look_on(taken, episode))
        assert earned(moments) == returns[episode]
        assert [moment.step for moment in moments] == list(range(1, len(moments) + 1))


class Calm:
    def __call__(self, obs: Any) -> Any:
        return np.tile(np.float32([0.1, -0.1, 0.1]), (len(obs), 1))

    def save(self, folder: Path) -> None:
        raise NotImplementedError


def test_it_ends_where_the_episode_does_and_changes_no_exam() -> None:
    whole = exam(horizon=None)
    before = examine(whole)
    moments = list(look_on(whole, 2))
    assert len(moments) == before.strain[2].steps
    for _ in look_on(whole, 1):
        break  # whoever turns away leaves nothing behind
    after = examine(whole)
    np.testing.assert_array_equal(before.returns_EO, after.returns_EO)


def test_forces_are_seen_where_they_act() -> None:
    (moment, *_) = look_on(exam(), 0)
    ((body, force_3),) = moment.forces.items()
    assert moment.model.body(body).name == "torso"
    np.testing.assert_allclose(force_3, [20 / np.sqrt(2), 0, 20 / np.sqrt(2)])
    assert moment.force == pytest.approx(20)
    assert moment.limit == 50
    (still, *_) = look_on(exam(0.0), 0)
    assert still.force == 0


@pytest.mark.parametrize("env", ["CartPole-v1", "rigorl/LinearQuadratic-v0"])
def test_what_is_no_robot_is_not_filmed(env: str) -> None:
    one = [[0.5]]
    kwargs: dict[str, Any] = dict.fromkeys("ABDQR", one) if "rigorl" in env else {}
    task = TaskSpec(name="cart", env=env, kwargs=kwargs)
    with pytest.raises(SpecError, match=f"must be of a robot in MuJoCo, but task 'cart' is {env}"):
        next(look_on(Exam(task, Lean(0, 0, 1), (0,)), 0))


@pytest.mark.parametrize(
    ("dt", "steps"), [(0.008, 5), (0.05, 1), (0.02, 2), (0.04, 1), (0.002, 20), (0.015, 3)]
)
def test_a_film_has_at_most_25_pictures_a_second(dt: float, steps: int) -> None:
    assert film.stride(dt) == steps


def test_of_attackers_the_worst_is_filmed() -> None:
    known = ["attack-0@0.25", "attack-0@1.00", "attack-1@1.00", "nominal", "a"]
    assert filming._named(None, known, {}) == "attack-0@1.00"
    costs = {"attack-0@0.25": 9.0, "attack-0@1.00": 1.0, "attack-1@1.00": 2.0}
    assert filming._named(None, known, costs) == "attack-1@1.00"
    assert filming._named(None, ["sac", "ppo"], {}) == "ppo"
    ways = ["nominal", "push:torso:0.50:000:10", "push:torso:0.75:090:10"]
    assert filming._named(None, ways, {}) == "push:torso:0.75:090:10"
    assert filming._named("nominal", known, costs) == "nominal"
    with pytest.raises(SpecError, match="'nominl' was not; did you mean 'nominal'"):
        filming._named("nominl", known, costs)


def pages(count: int) -> Iterator[Image.Image]:
    for i in range(count):
        yield Image.new("RGB", (32, 24), (8 * i, 0, 0))


def test_a_film_is_what_it_was_made_of(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.gif"
    film.write(path, list(pages(5)), 0.04)
    with Image.open(path) as found:
        assert (found.n_frames, found.info["duration"], found.size) == (5, 40, (32, 24))
    assert list(path.parent.iterdir()) == [path]


def test_a_film_that_is_cut_short_leaves_no_half_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.gif"
    film.write(path, list(pages(2)), 0.04)
    whole = path.read_bytes()

    def interrupted(_: Image.Image, to: Path, **how: Any) -> None:
        Path(to).write_bytes(b"GIF89a")
        raise Stopped(signal.SIGINT)

    monkeypatch.setattr(Image.Image, "save", interrupted)
    with pytest.raises(Stopped):
        film.write(path, list(pages(5)), 0.04)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == whole


def test_where_a_film_cannot_be_written_is_named() -> None:
    with pytest.raises(SpecError, match=r"but /proc/a\.gif: .*; choose another with --out"):
        film.write(Path("/proc/a.gif"), list(pages(1)), 0.04)
