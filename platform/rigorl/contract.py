"""What the platform asks of an algorithm."""

import ast
import hashlib
import importlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, cast, get_args

import msgspec

from rigorl.convert import convert
from rigorl.errors import SpecError, TrialFailed, UnknownAgent, nearest
from rigorl.spec import AgentSpec
from rigorl.tasks.world import Policy, World, WorldSpec, load_policy, save_policy

HOUSE = "rigorl.agents."
PLAYING = (
    "seeds.py",
    "schedules.py",
    "alarms.py",
    "ports.py",
    "alarming.py",
    "analysis/alarm.py",
    "searches/measure.py",
    "spec.py",
    "convert.py",
    "trial.py",
    "search.py",
    "objectives.py",
    "contract.py",
    "examining.py",
    "switching.py",
    "run.py",
    "lockstep.py",
    "tasks/**/*.py",
    "blocks/**/*.py",
)
"""The rooms whose code may change what a trial reports."""
I = TypeVar("I")  # noqa: E741
R = TypeVar("R")
V = TypeVar("V")


class Span(NamedTuple):
    """The part of a stage to be learned now, in environment steps since the stage began.

    `start == 0`, and nothing else, means that a task begins.
    """

    stage: int
    start: int
    stop: int


class Progress(NamedTuple):
    """A pause of a learner.

    `step` counts environment steps since the stage began, `update` optimiser steps since
    the agent was born. When not `safe` (mid-rollout, mid-epoch) the platform may examine the
    agent, but neither save nor close it.
    """

    step: int
    update: int
    metrics: Mapping[str, float] = {}
    safe: bool = True


def check_metrics(progress: Progress, task: str) -> None:
    """Refuse a number that is none: a learner that says it has come to nonsense."""
    for name, value in progress.metrics.items():
        if not math.isfinite(value):
            raise TrialFailed(
                f"metrics must be finite, but {name} is {value} at step {progress.step}, update "
                f"{progress.update} of task {task!r}; try a lower learning rate or normalised "
                "rewards"
            )


class Crew(Protocol):
    """The one way to spread work inside a trial. Randomness comes only from the item."""

    @property
    def size(self) -> int:
        """Items that are worked on at the same time, beside the caller; 0: it does all itself."""

    def share(self, value: V) -> V:
        """Return what may stand for *value* as a field of items: it travels once, not with each.

        A function finds the value itself there. *value* must not change any more.
        """

    def submit(self, function: Callable[[I], R], item: I) -> "Future[R]":
        """Work on *item* as soon as a member is free. Wait here while too much is waiting."""

    def map(self, function: Callable[[I], R], items: Iterable[I]) -> Iterator[R]:
        """Yield the results in the order of *items*."""


class Agent(Protocol):
    """One learner, from birth to its last exam."""

    def learn(self, world: World, crew: Crew, span: Span) -> Iterator[Progress]:
        """Learn from *world* for the steps of *span*.

        Yield as often as you like, the last time at exactly `span.stop`, safely. At each
        yield the platform may examine you; at a safe one it may also save you, or close
        you and call `learn` again, in a fresh world, for the rest of the stage. `finally`
        may clean up and never yields. A sequence of tasks is a sequence of stages.
        """

    def policies(self) -> Mapping[str, Policy]:
        """What you would do if examined now, as frozen copies: one policy, or a front."""

    def save(self, folder: Path) -> None:
        """Write all that you need to go on as if nothing had happened; no pickle."""

    def load(self, folder: Path) -> None:
        """Read what `save` wrote."""


class Algorithm(Protocol):
    """A module that can make agents."""

    Config: type[msgspec.Struct]

    def make(self, config: Any, world: WorldSpec, seed: int) -> Agent: ...

    def load_policy(self, folder: Path) -> Policy: ...


def find(name: str) -> Algorithm:
    """Import the algorithm called *name*: a file in rigorl/agents, or any dotted module."""
    module = name if "." in name else HOUSE + name
    try:
        algorithm = importlib.import_module(module)
    except (TypeError, ValueError) as error:  # `.ppo`, ``
        raise UnknownAgent(
            f"an agent must be named, or a dotted module, but is {name!r}"
            + nearest(name, house_agents()),
            "$.name",
        ) from error
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise UnknownAgent(
            f"an agent must be a file in rigorl/agents or a dotted module, but is {name!r}"
            + nearest(name, house_agents()),
            "$.name",
        ) from error
    lacking = [part for part in ("Config", "make") if not hasattr(algorithm, part)]
    if lacking:
        raise UnknownAgent(
            f"an agent's module must have Config and make, but {name!r} lacks "
            f"{', '.join(lacking)}{nearest(name, house_agents())}",
            "$.name",
        )
    return cast("Algorithm", algorithm)


def house_agents() -> list[str]:
    """Return the names of the algorithms in rigorl/agents."""
    folder = Path(__file__).with_name("agents")
    return sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")


def settings(name: str) -> dict[str, Any]:
    """Return what the algorithm called *name* is and takes: settings with their defaults."""
    algorithm = find(name)
    doc = (algorithm.__doc__ or name).strip().splitlines()[0]
    fields = msgspec.structs.fields(algorithm.Config)
    settings = {f.encode_name: _default(f) for f in fields}
    named = {f.encode_name: choices for f in fields if (choices := _choices(f.type))}
    return {"about": doc, "settings": settings} | ({"choices": named} if named else {})


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default_factory is not msgspec.NODEFAULT:
        return field.default_factory()
    return "(must be given)" if field.required else msgspec.to_builtins(field.default)


def _choices(kind: Any) -> list[Any]:
    """Return what a setting of *kind* may be, if it is one of several structs with a name."""
    parts = [part for part in get_args(kind) if isinstance(part, msgspec.StructMeta)]
    return [msgspec.to_builtins(part()) for part in parts] if len(parts) > 1 else []


@cache
def code(name: str) -> str:
    """Return a fingerprint of the code that makes the results of the algorithm called *name*.

    Before the dot that of its module, after it that of the rooms which play every trial, as
    Python reads them: comments, docstrings and layout do not count.
    """
    module = Path(str(cast("Any", find(name)).__file__))
    here = Path(__file__).parent
    rooms = [path for room in PLAYING for path in sorted(here.glob(room))]
    return f"{_fingerprint([module])}.{_fingerprint(rooms)}"


def _fingerprint(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                node.body = [part for part in node.body if not _says_only(part)]
        digest.update(f"{path.name}:{ast.dump(tree)}".encode())
    return digest.hexdigest()[:12]


def _says_only(part: ast.stmt) -> bool:
    return isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)


def configure(agent: AgentSpec) -> msgspec.Struct:
    """Return the typed, checked configuration of *agent*."""
    schema = find(agent.name).Config
    known = frozenset(field.encode_name for field in msgspec.structs.fields(schema))
    config: msgspec.Struct = convert(agent.config, schema, "$.config", known)
    for key in known:
        value = getattr(config, key, None)
        if isinstance(value, float) and math.isnan(value):
            law = f"a setting must be a number, but {key} is nan; write one"
            raise SpecError(law, f"$.config.{key}")
    return config


def make(agent: AgentSpec, world: WorldSpec, seed: int) -> Agent:
    """Return the agent that *agent* describes, newborn, for *world*."""
    return find(agent.name).make(configure(agent), world, seed)


def save_policies(policies: Mapping[str, Policy], folder: Path) -> None:
    """Write *policies* into *folder*, each into a folder of its own."""
    for name, policy in policies.items():
        save_policy(policy, folder / name)


def load_policies(folder: Path) -> dict[str, Policy]:
    """Return the policies in the folders of *folder*, by name."""
    return {path.name: load_policy(path) for path in sorted(folder.iterdir()) if path.is_dir()}
