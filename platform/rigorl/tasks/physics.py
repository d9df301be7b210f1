"""The `physics:` of a task.

MuJoCo tasks take

* `gravity`: a number (m/s^2, downwards), or the whole vector [x, y, z];
* `mass`, `friction`, `damping`, `gear`: a scale for all, or `name: scale` for some. Mass
  scales the inertia of bodies with their mass; friction the sliding friction of the geoms of a
  body, or of one geom; damping that of joints; gear what an actuator, or all of a joint, exert
  for what is asked of them: of 0, a joint is damaged, and hangs loose. Where two geoms touch,
  MuJoCo goes by the *larger* friction: to make a slippery world, scale all, not the feet alone.

Gymnasium's classic control takes absolute values of its own constants, listed in `CLASSIC`.
"""

import logging
import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import gymnasium as gym
import mujoco  # type: ignore[import-untyped]
import numpy as np
from gymnasium.envs.classic_control.acrobot import AcrobotEnv
from gymnasium.envs.classic_control.cartpole import CartPoleEnv
from gymnasium.envs.classic_control.continuous_mountain_car import Continuous_MountainCarEnv
from gymnasium.envs.classic_control.mountain_car import MountainCarEnv
from gymnasium.envs.classic_control.pendulum import PendulumEnv
from numpy.typing import NDArray

from rigorl.errors import SpecError, nearest
from rigorl.spec import Physics

CLASSIC: dict[type[gym.Env[Any, Any]], dict[str, str]] = {
    CartPoleEnv: {
        "gravity": "gravity",
        "masscart": "masscart",
        "cart_mass": "masscart",
        "masspole": "masspole",
        "pole_mass": "masspole",
        "length": "length",
        "pole_length": "length",
        "force_mag": "force_mag",
        "force": "force_mag",
    },
    PendulumEnv: {"gravity": "g", "g": "g", "mass": "m", "m": "m", "length": "l", "l": "l"},
    AcrobotEnv: {
        "link_length_1": "LINK_LENGTH_1",
        "link_mass_1": "LINK_MASS_1",
        "link_mass_2": "LINK_MASS_2",
        "link_com_pos_1": "LINK_COM_POS_1",
        "link_com_pos_2": "LINK_COM_POS_2",
        "link_moi": "LINK_MOI",
    },
    MountainCarEnv: {"force": "force", "gravity": "gravity"},
    Continuous_MountainCarEnv: {"power": "power", "force": "power"},
}
"""What may be changed, and the attribute that holds it. Left out is what shapes the spaces
(speeds, torques, positions) and what nothing depends on (the length of Acrobot's second link).
CartPole's length is Gymnasium's: from the hinge to the pole's centre, half the pole."""

FINITE, ABOVE, NOT_BELOW = "finite", "finite and above 0", "finite and not below 0"
JOINTS = mujoco.mjtTrn.mjTRN_JOINT.value, mujoco.mjtTrn.mjTRN_JOINTINPARENT.value
HUGE = 1e6
"""In metres, radians, and these a second: no robot of ours is so far or fast."""
BAD = tuple(
    getattr(mujoco.mjtWarning, f"mjWARN_BAD{what}").value for what in ("QPOS", "QVEL", "QACC")
)


_unstable: list[None] = []


def _hear(message: str) -> None:
    first = not _unstable
    if "unstable" in message:
        _unstable.append(None)  # in one go, whatever thread it is
        if first:  # the others are counted, and told as a metric
            logging.getLogger(__name__).warning("MuJoCo: %s", message)
            return
    logging.getLogger(__name__).debug("MuJoCo: %s", message)


def hear_warnings() -> None:
    """Take MuJoCo's warnings, of all simulations of this process.

    Left alone, MuJoCo writes MUJOCO_LOG.TXT into the working directory, and a line to stderr
    whenever a HalfCheetah is opened.
    """
    mujoco.set_mju_user_warning(_hear)


def unstable_count() -> int:
    """Return how often a simulation of this process was heard to be unstable.

    MuJoCo says so once between two `mj_resetData` of a simulation, from the thread that steps
    it.
    """
    return len(_unstable)


hear_warnings()


def came_apart(data: mujoco.MjData) -> bool:
    """Say whether a position, velocity or acceleration became NaN or huge since the last reset.

    MuJoCo begins anew by itself where one is NaN or above 1e10, and goes on. Long before,
    rewards that grow with the square of a speed are nonsense.
    """
    if any(data.warning[kind].number for kind in BAD):
        return True
    energy = np.vdot(data.qpos, data.qpos) + np.vdot(data.qvel, data.qvel)
    return not energy < HUGE**2  # nor is it if it is NaN


def is_rejected(env: gym.Env[Any, Any]) -> bool:
    """Say whether MuJoCo has complained of bodies without inertia since the last reset."""
    data = getattr(env.unwrapped, "data", None)
    return isinstance(data, mujoco.MjData) and bool(
        data.warning[mujoco.mjtWarning.mjWARN_INERTIA].number
    )


def alter(target: gym.Env[Any, Any] | mujoco.MjModel, physics: Physics, key: str) -> None:
    """Apply *physics* to a newly opened environment, to be reset before use, or to a model.

    *key* is where it stands in a task. A `SpecError` has its address below `$.key`; *target*
    is then altered by half.
    """
    if not physics:
        return
    bare = target.unwrapped if isinstance(target, gym.Env) else target
    model = getattr(bare, "model", bare)
    if isinstance(model, mujoco.MjModel):
        _alter_mujoco(model, physics, f"$.{key}")
        return
    for kind, attributes in CLASSIC.items():
        if isinstance(bare, kind):
            _alter_classic(bare, attributes, physics, f"$.{key}")
            return
    raise SpecError(
        f"{key} must be for a MuJoCo or classic-control task, but is given for a "
        f"{type(bare).__name__}; drop it, or see whether the task's kwargs do the same",
        f"$.{key}",
    )


def _alter_classic(bare: Any, attributes: Mapping[str, str], physics: Physics, where: str) -> None:
    given: dict[str, str] = {}
    for key, value in physics.items():
        at = f"{where}.{key}"
        if key not in attributes:
            raise _unknown_key(key, attributes, at)
        attribute = attributes[key]
        if attribute in given:
            raise SpecError(
                f"{key} must be given once, but is {given[attribute]} too; drop one of them", at
            )
        given[attribute] = key
        law = FINITE if attribute in {"gravity", "g"} else ABOVE
        setattr(bare, attribute, _number(key, value, at, law))
    if isinstance(bare, CartPoleEnv):
        bare.total_mass = bare.masspole + bare.masscart
        bare.polemass_length = bare.masspole * bare.length


def _alter_mujoco(model: mujoco.MjModel, physics: Physics, where: str) -> None:
    for key, value in physics.items():
        at = f"{where}.{key}"
        if key == "gravity":
            _set_gravity(model, value, at)
        elif key in SCALED:
            _scale(key, SCALED[key](model), value, at)
        else:
            raise _unknown_key(key, [*SCALED, "gravity"], at)
    # Inverse weights and the like follow from masses; scratch data leave the state alone.
    mujoco.mj_setConst(model, mujoco.MjData(model))


def _set_gravity(model: mujoco.MjModel, value: object, at: str) -> None:
    if isinstance(value, (list, tuple)):
        if len(value) != 3:  # noqa: PLR2004
            raise SpecError(
                f"gravity must have 3 components, but has {len(value)}; "
                "write [x, y, z] in m/s^2, or one number for downwards",
                at,
            )
        model.opt.gravity[:] = [_number("gravity", v, f"{at}[{i}]") for i, v in enumerate(value)]
    else:
        model.opt.gravity[2] = -_number("gravity", value, at)


class Part(NamedTuple):
    """A quantity of a model: arrays to be scaled row by row, and the rows of each name."""

    kind: str
    arrays: tuple[NDArray[np.float64], ...]
    rows: dict[str, NDArray[np.intp]]
    law: str = ABOVE

    @property
    def useful(self) -> list[str]:
        """The names that have some of the quantity: to scale others would change nothing."""
        return [
            name
            for name, rows in self.rows.items()
            if name and any(array[rows].any() for array in self.arrays)
        ]


def _masses(model: mujoco.MjModel) -> Part:
    rows = {name: np.array([i]) for i, name in enumerate(_names(model, "body", model.nbody))}
    return Part("body", (model.body_mass, model.body_inertia), rows)


def _frictions(model: mujoco.MjModel) -> Part:
    geoms = {name: np.array([i]) for i, name in enumerate(_names(model, "geom", model.ngeom))}
    bodies = {
        name: np.flatnonzero(model.geom_bodyid == i)
        for i, name in enumerate(_names(model, "body", model.nbody))
    }
    return Part("body or geom", (model.geom_friction[:, :1],), geoms | bodies)


def _dampings(model: mujoco.MjModel) -> Part:
    rows = {
        name: np.flatnonzero(model.dof_jntid == i)
        for i, name in enumerate(_names(model, "jnt", model.njnt))
    }
    return Part("joint", (model.dof_damping, model.dof_dampingpoly), rows)


def _gears(model: mujoco.MjModel) -> Part:
    # Most of Gymnasium's motors have no name, but each drives a joint that has one.
    turns = np.isin(model.actuator_trntype, JOINTS)
    own = {name: np.array([i]) for i, name in enumerate(_names(model, "actuator", model.nu))}
    joints = {
        name: np.flatnonzero(turns & (model.actuator_trnid[:, 0] == i))
        for i, name in enumerate(_names(model, "jnt", model.njnt))
    }
    return Part("joint or actuator", (model.actuator_gear,), own | joints, NOT_BELOW)


SCALED = {"damping": _dampings, "friction": _frictions, "gear": _gears, "mass": _masses}


def _names(model: mujoco.MjModel, kind: str, count: int) -> list[str]:
    return [getattr(model, kind)(i).name for i in range(count)]


def _scale(key: str, part: Part, value: object, at: str) -> None:
    scales = np.ones(len(part.arrays[0]))
    if isinstance(value, Mapping):
        _check_names(key, part, value, at)
        for name, scale in value.items():
            scales[part.rows[name]] = _number(key, scale, f"{at}.{name}", part.law)
    elif not any(array.any() for array in part.arrays):
        raise SpecError(
            f"{key} must have something to scale, but is 0 for every {part.kind}; drop it", at
        )
    else:
        scales[:] = _number(key, value, at, part.law)
    for array in part.arrays:
        array[:] = (array.T * scales).T


def _check_names(key: str, part: Part, names: Iterable[str], at: str) -> None:
    times = np.zeros(len(part.arrays[0]), dtype=np.intp)
    for name in names:
        if name not in part.useful:
            fact = "has none" if name in part.rows else "is none"
            way_out = nearest("" if name in part.rows else name, part.useful)
            raise SpecError(
                f"{key} must name a {part.kind} that has some, but {name!r} {fact}{way_out}",
                f"{at}.{name}",
            )
        times[part.rows[name]] += 1
    if times.max(initial=0) > 1:
        raise SpecError(
            f"{key} must be scaled once per {part.kind}, but some names overlap: "
            f"{', '.join(names)}; name the whole, or its parts",
            at,
        )


def _number(key: str, value: object, at: str, law: str = FINITE) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise SpecError(f"{key} must be a number here, but is {value!r}; write one", at)
    low = (law == ABOVE and value <= 0) or (law == NOT_BELOW and value < 0)
    if not math.isfinite(value) or low:
        raise SpecError(f"{key} must be {law}, but is {value}; correct it", at)
    return float(value)


def _unknown_key(key: str, known: Iterable[str], at: str) -> SpecError:
    return SpecError(
        f"a quantity must be one that this task can change, but {key!r} is not"
        + nearest(key, known),
        at,
    )
