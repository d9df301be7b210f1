"""Where a task can be disturbed: forces on the bodies of robots, or on the state of a system.

Shapes: E environments, F numbers of a disturbance, N bodies pushed, X axes, B bodies of a model.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import gymnasium as gym
import mujoco  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

from rigorl.errors import SpecError, nearest
from rigorl.ports import AXES, PortSpec
from rigorl.spec import TaskSpec
from rigorl.tasks.linear import LinearQuadratic
from rigorl.tasks.robots.batched import BatchedMujoco
from rigorl.tasks.robots.known import ROBOTS
from rigorl.tasks.world import Envs, Port

Array = NDArray[np.float64]
POSES, NOTHING = 8, 1e-9


class Pushed(NamedTuple):
    """Which bodies of a model a port pushes, along which axes, and the norm of the most it may."""

    body_N: tuple[int, ...]
    axis_X: tuple[int, ...]
    limit: float

    @property
    def size(self) -> int:
        return len(self.body_N) * len(self.axis_X)


class Bodies:
    """The port of a batch of robots."""

    def __init__(self, spec: PortSpec, robots: BatchedMujoco) -> None:
        model = robots.model
        self._pushed = pushed(spec, model)
        self._robots, self._turns = robots, spec.frame == "body"
        self._wrench_EB6 = np.zeros((robots.num_envs, model.nbody, 6))
        self.size, self.limit = self._pushed.size, self._pushed.limit

    def push(self, force_EF: NDArray[Any]) -> None:
        body_N, axis_X, _ = self._pushed
        force_EN3 = np.zeros((len(force_EF), len(body_N), 3))
        force_EN3[..., axis_X] = np.reshape(force_EF, (-1, len(body_N), len(axis_X)))
        if self._turns:
            turn_EN33 = self._robots.turned(body_N)
            force_EN3 = np.einsum("enij,enj->eni", turn_EN33, force_EN3)
        self._wrench_EB6[:, body_N, :3] = force_EN3
        self._robots.push(self._wrench_EB6)

    def acted(self, row: int) -> dict[int, Array]:
        """Return the forces last pushed in environment *row*, by body, in the world's frame."""
        return {body: self._wrench_EB6[row, body, :3] for body in self._pushed.body_N}


class System:
    """The port of environments that are pushed as they are, without bodies."""

    def __init__(self, spec: PortSpec, envs: Any) -> None:
        self.size, self.limit, self._envs = int(envs.forces), spec.limit, envs

    def push(self, force_EF: NDArray[Any]) -> None:
        self._envs.push(force_EF)


def opened(task: TaskSpec, envs: Envs) -> Port | None:
    """Return the port of *envs*, which were opened for *task*; None if it has none."""
    if task.port is None:
        return None
    bare: Any = envs.unwrapped
    port: Port = (Bodies if isinstance(bare, BatchedMujoco) else System)(task.port, bare)
    return port


def forces(task: TaskSpec, env: gym.Env[Any, Any]) -> int:
    """Return of how many numbers a disturbance of *task* consists; 0 if it has no port.

    *env* is one environment of it. Raises `SpecError`, with its address below `$.port`, where a
    port cannot be as it is written.
    """
    if task.port is None:
        return 0
    bare: Any = env.unwrapped
    if isinstance(bare, LinearQuadratic):
        return _of_system(task.port, bare)
    if type(bare) not in ROBOTS or task.engine != "auto":
        fact = f"engine is {task.engine}" if task.engine != "auto" else f"{task.env} is none"
        raise SpecError(
            f"a port must be of a robot of Gymnasium's that rigorl steps, or of a linear system, "
            f"but {fact}; choose another task, or drop `port`",
            "$.port",
        )
    return pushed(task.port, bare.model).size


def _of_system(spec: PortSpec, bare: Any) -> int:
    for key in ("bodies", "axes"):
        if getattr(spec, key):
            law = f"{key} must be of a robot, but {type(bare).__name__} is none; drop it"
            raise SpecError(law, f"$.port.{key}")
    if spec.unit == "weight" or spec.frame == "body":
        key = "unit" if spec.unit == "weight" else "frame"
        raise SpecError(
            f"{key} must suit what has bodies to be {getattr(spec, key)}, but "
            f"{type(bare).__name__} has none; drop it",
            f"$.port.{key}",
        )
    return int(bare.forces)


def pushed(spec: PortSpec, model: mujoco.MjModel) -> Pushed:
    """Return what *spec* means for *model*."""
    names = [model.body(i).name for i in range(model.nbody)]
    known = names[1:]  # the first one is the world
    if not spec.bodies:
        law = f"bodies must say where forces act, but name none; some of {', '.join(known)}"
        raise SpecError(law, "$.port.bodies")
    for i, name in enumerate(spec.bodies):
        if name not in known:
            law = f"a body must be one of the robot's, but {name!r} is not{nearest(name, known)}"
            raise SpecError(law, f"$.port.bodies[{i}]")
    body_N = tuple(names.index(name) for name in spec.bodies)
    weight = float(model.body_mass.sum() * np.linalg.norm(model.opt.gravity))
    limit = spec.limit * (weight if spec.unit == "weight" else 1.0)
    if not limit:
        law = "a limit in weights must be above 0, but without gravity nothing has any; use newtons"
        raise SpecError(law, "$.port.unit")
    return Pushed(body_N, _axes(spec, model, body_N), limit)


def _axes(spec: PortSpec, model: mujoco.MjModel, body_N: Sequence[int]) -> tuple[int, ...]:
    """Return the axes of *spec*; refuse those along which a force would change nothing."""
    moves_N3 = _moves(model, body_N, turns=spec.frame == "body")
    for i, name in enumerate(spec.bodies):
        if not moves_N3[i].any():
            law = f"a body must be able to move, but {name!r} is fixed; drop it"
            raise SpecError(law, f"$.port.bodies[{i}]")
    if spec.axes is None:
        return tuple(int(axis) for axis in np.flatnonzero(moves_N3.any(0)))
    axes = tuple(AXES.index(axis) for axis in spec.axes)
    for body, moves_3 in zip(spec.bodies, moves_N3, strict=True):
        for axis in axes:
            if not moves_3[axis]:
                able = "".join(AXES[i] for i in np.flatnonzero(moves_3))
                raise SpecError(
                    f"a force must be able to move what it pushes, but along {AXES[axis]} it does "
                    f"nothing to {body!r}, which moves along {able}; write that, or drop axes",
                    "$.port.axes",
                )
    return axes


def _moves(model: mujoco.MjModel, body_N: Sequence[int], *, turns: bool) -> NDArray[np.bool_]:
    """Say along which axes the centre of mass of each body can move in some pose of the robot."""
    data, luck = mujoco.MjData(model), np.random.default_rng(0)
    moves_N3 = np.zeros((len(body_N), 3), np.bool_)
    slope_3V = np.zeros((3, model.nv))
    for _ in range(POSES):
        data.qpos[:] = model.qpos0
        mujoco.mj_integratePos(model, data.qpos, luck.uniform(-1, 1, model.nv), 1.0)
        mujoco.mj_fwdPosition(model, data)
        for i, body in enumerate(body_N):
            mujoco.mj_jacBodyCom(model, data, slope_3V, None, body)
            own_3V = data.xmat[body].reshape(3, 3).T @ slope_3V if turns else slope_3V
            moves_N3[i] |= np.abs(own_3V).max(1, initial=0.0) > NOTHING
    return moves_N3
