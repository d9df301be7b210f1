"""YAML -> Experiment, with an address for every mistake."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml

from rigorl.convert import convert
from rigorl.errors import SpecError
from rigorl.space import Over
from rigorl.spec import Arm, Experiment


class _Strict(yaml.SafeLoader):
    """YAML as people expect it: 3e-4 is a number, `no` is a word, a key is given once."""

    yaml_implicit_resolvers = {  # noqa: RUF012  PyYAML's own way
        first: [
            (tag, pattern) for tag, pattern in known if not tag.endswith((":bool", ":timestamp"))
        ]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        own = [pair for pair in node.value if pair[0].tag != "tag:yaml.org,2002:merge"]
        keys = [self.construct_object(key, deep=True) for key, _ in own]
        for (node_key, _), key in zip(own, keys, strict=True):
            if keys.count(key) > 1:
                line = node_key.start_mark.line + 1
                raise SpecError(
                    f"a key may be given once, but {key!r} is repeated near line {line}; "
                    "drop one of them"
                )
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        return mapping


_Strict.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Strict.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?\d[\d_]*(\.\d*)?[eE][-+]?\d+$"),
    list("-+0123456789"),
)


def read(path: Path, changes: Sequence[str] = ()) -> Experiment:
    """Return the experiment in the file at *path*, with *changes* such as `budget.steps=10`."""
    experiment: Experiment = _read(path, changes, lambda raw: parse(_with_robots(raw, path)))
    return experiment


def read_as(
    path: Path, kind: Any, changes: Sequence[str] = (), known: frozenset[str] = frozenset()
) -> Any:
    """Return what is in the file at *path*, which is a *kind*, with some of the keys *known*."""
    return _read(path, changes, lambda raw: convert(raw, kind, "$", known))


def has(path: Path, key: str) -> bool:
    """Say whether the file at *path* is a mapping with *key*; no, where it cannot be read."""
    try:
        raw = yaml.load(text(path), _Strict)  # noqa: S506
    except (yaml.YAMLError, SpecError):
        return False
    return isinstance(raw, dict) and key in raw


def _read(path: Path, changes: Sequence[str], parse: Callable[[Any], Any]) -> Any:
    try:
        raw = yaml.load(text(path), _Strict)  # noqa: S506  a SafeLoader, made stricter
        for change in changes:
            _change(raw, change)
        return parse(raw)
    except yaml.YAMLError as error:
        raise SpecError(f"{path}: a spec must be YAML, but {_flat(error)}") from error
    except SpecError as error:
        raise SpecError(f"{path}: {error.message}", error.at) from error


def text(path: Path) -> str:
    """Return what the file at *path* says."""
    try:
        return path.read_text()
    except UnicodeDecodeError as error:
        raise SpecError(f"a file must be text, but {path} is not; is it the right one?") from error
    except OSError as error:
        raise SpecError(
            f"a file must be one that can be read, but {path}: {error.strerror}; correct the name"
        ) from error


def _with_robots(raw: Any, path: Path) -> Any:
    """Put into the tasks of *raw*, for the names of models, what these say.

    They are looked up beside the file at *path*. What begins as XML does is a model already.
    """
    tasks = raw.get("tasks") if isinstance(raw, dict) else None
    for i, task in enumerate(tasks if isinstance(tasks, list) else ()):
        named = task.get("robot") if isinstance(task, dict) else None
        if isinstance(named, str) and not named.lstrip().startswith("<"):
            try:
                task["robot"] = text(path.parent / Path(named).expanduser())
            except SpecError as error:
                raise SpecError(error.message, f"$.tasks[{i}].robot") from error
    return raw


def parse(raw: Any) -> Experiment:
    """Return the experiment that the plain value *raw* describes."""
    if not isinstance(raw, dict):
        raise SpecError(f"a spec must be a mapping, but is {type(raw).__name__}; see docs/yaml.md")
    arms = raw.get("arms")
    for name, arm in arms.items() if isinstance(arms, dict) else ():
        if arm is None:
            raise SpecError(
                "an arm must say its agent, but is empty; add `agent: {name: ppo}`",
                f"$.arms.{name}",
            )
        _space(arm, f"$.arms.{name}.search.space")
        convert(arm, Arm, f"$.arms.{name}")
    experiment: Experiment = convert(raw, Experiment, "$")
    return experiment


def _space(arm: Any, at: str) -> None:
    """Check a search space one dimension at a time, so that the address is a whole one."""
    search = arm.get("search") if isinstance(arm, dict) else None
    dimensions = search.get("space") if isinstance(search, dict) else None
    for name, over in dimensions.items() if isinstance(dimensions, dict) else ():
        convert(over, Over, f"{at}.{name}")


def _change(raw: Any, change: str) -> None:
    """Set one value of *raw* in place: `arms.ppo.agent.config.lr=1e-3`, `tasks.0.env=...`."""
    path, equals, value = change.partition("=")
    keys = path.split(".")
    if not equals or not all(keys):
        raise SpecError(
            f"a change must read key.path=value, but is {change!r}; as --set budget.steps=1000"
        )
    *parents, last = keys
    for key in parents:
        raw = raw.setdefault(key, {}) if isinstance(raw, dict) else _item(raw, key, change)
    if isinstance(raw, list):
        _item(raw, last, change)
        raw[int(last)] = yaml.load(value, _Strict)  # noqa: S506
    elif isinstance(raw, dict):
        raw[last] = yaml.load(value, _Strict)  # noqa: S506
    else:
        raise SpecError(f"a change must lead to a key, but {change!r} leads below {raw!r}")


def _item(raw: Any, key: str, change: str) -> Any:
    if not isinstance(raw, list) or not key.isdigit() or int(key) >= len(raw):
        raise SpecError(
            f"a change must lead along keys that are there, but {key!r} of {change!r} is not"
            + (f"; there are {len(raw)} items, from 0" if isinstance(raw, list) else "")
        )
    return raw[int(key)]


def _flat(error: yaml.YAMLError) -> str:
    return " ".join(str(error).split())
