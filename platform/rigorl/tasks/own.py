"""A robot of one's own (`robot:` of a task): another model for one of Gymnasium's robots.

A spec holds the text of the model, so it is complete on every machine. Gymnasium reads files:
each process writes one, named by what is in it.
"""

import hashlib
import importlib
import inspect
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from xml.etree import ElementTree as ET

import gymnasium as gym
import mujoco  # type: ignore[import-untyped]

from rigorl.errors import SpecError
from rigorl.spec import TaskSpec

FILE, AT = "xml_file", "$.robot"
MISFITS = KeyError, IndexError, ValueError
"""What one of Gymnasium's robots raises that looks for parts which a model does not have."""


def kwargs(task: TaskSpec) -> dict[str, Any]:
    """Return with what the environment of *task* is made: `kwargs`, and the file of its model.

    Raises `SpecError`, at `$.robot`, where the model cannot be what *task* is played with.
    """
    if task.robot is None:
        return task.kwargs
    entry_point = gym.registry[task.env.rpartition(":")[2]].entry_point
    known = str(entry_point).startswith("gymnasium.envs.mujoco")
    if not known or FILE not in parameters(entry_point):
        raise SpecError(
            f"a robot must be for an env that is one of Gymnasium's robots and takes {FILE}, as "
            f"Ant-v5 does, but {task.env} does not; choose another env, or drop `robot`",
            AT,
        )
    if FILE in task.kwargs:
        raise SpecError(
            f"a robot must be given once, but kwargs.{FILE} gives another; drop one of them", AT
        )
    return {**task.kwargs, FILE: str(_written(task.robot))}


def parameters(entry_point: Any) -> set[str]:
    """Return the names that an environment's class and its ancestors are made with."""
    if isinstance(entry_point, str):
        module, _, name = entry_point.partition(":")
        entry_point = getattr(importlib.import_module(module), name)
    if not isinstance(entry_point, type):
        return set()
    makers = [vars(kind)["__init__"] for kind in entry_point.__mro__ if "__init__" in vars(kind)]
    named = {name for maker in makers[:-1] for name in inspect.signature(maker).parameters}
    return named - {"self", "args", "kwargs"} | {"max_episode_steps"}


@contextmanager
def fitting(task: TaskSpec) -> Iterator[None]:
    """Blame the robot of *task*, if it has one, for what its environment does not find in it."""
    try:
        yield
    except MISFITS as error:
        if task.robot is None:
            raise
        raise SpecError(
            f"a robot must have what {task.env} looks for, but: {_line(error)}; give the model "
            "that part, or say with kwargs (as main_body) what stands for it",
            AT,
        ) from error


def _written(text: str) -> Path:
    """Return a file that holds *text*, once it was found to be a model."""
    _check(text)
    path = Path(_folder().name, f"{hashlib.sha256(text.encode()).hexdigest()[:16]}.xml")
    if not path.exists():  # what cleans temporary folders may have been here since
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        draft.write_text(text)
        draft.replace(path)
    return path


@cache
def _folder() -> "TemporaryDirectory[str]":
    return TemporaryDirectory(prefix="rigorl-robots-", ignore_cleanup_errors=True)


@cache
def _check(text: str) -> None:
    """Refuse what is no model of MuJoCo's, or does not stand alone."""
    try:
        root = ET.fromstring(text)  # noqa: S314  a person's own file, as their code is
    except ET.ParseError as error:
        raise SpecError(f"a robot must be a model in XML, but {error}; mend it", AT) from error
    if root.tag != "mujoco":
        raise SpecError(
            f"a robot must be in MuJoCo's format, MJCF, whose root is `mujoco`, but its root is "
            f"`{root.tag}`; convert it, or name another file",
            AT,
        )
    for part in root.iter():
        files = [part.attrib[key] for key in part.attrib if key.startswith("file")]
        if part.tag == "include" or files:
            raise SpecError(
                "a robot must stand alone, as its text travels to where it is played, but its "
                f"`{part.tag}` is read from {', '.join(files) or 'elsewhere'}; put it into the "
                "model, build it of primitives, or give kwargs.xml_file a path that every node has",
                AT,
            )
    try:
        model = mujoco.MjModel.from_xml_string(text)
    except ValueError as error:
        law = f"a robot must be one that MuJoCo takes, but it says: {_line(error)}; mend it"
        raise SpecError(law, AT) from error
    if not (model.nu and model.nv):
        raise SpecError(
            f"a robot must be able to act, but it has {model.nu} actuators and {model.nv} degrees "
            "of freedom; give it joints, and motors for them",
            AT,
        )


def _line(error: BaseException) -> str:
    return " ".join(str(error.args[0] if error.args else error).split())
