"""What a study sends to a cluster: its name there, its command, its files. Without Ray.

What is sent can be read by all who may look at the cluster's dashboard, so no secret is in it.
"""

import hashlib
import os
import re
import shlex
import shutil
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import rigorl
from rigorl.errors import SpecError
from rigorl.hiding import has_secret, shown
from rigorl.outside.on_ray import probe
from rigorl.spec import Experiment

SCRIPT = "rigorl_probe.py"
STOP_S = 90
"""Seconds that Ray leaves a driver to end: our gentle stop, then MLflow; Ray's own are 3."""
ENV = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_S), "RIGORL_SUBMITTED": "1"}
"""The second: who submitted it has been told what to type next."""
SECRETS = (
    "RAY_AUTH_TOKEN",
    "PGPASSWORD",
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
)
"""Variables of this machine whose values must not travel."""
NOT_SENT = ("test", "bench")
"""Extras of rigorl that no study needs."""
LEFT_OUT = shutil.ignore_patterns("__pycache__", ".*", "*.pyc")


class Order(NamedTuple):
    """A study, and how it is to be played there. Empty: what the cluster's nodes say."""

    spec: Experiment
    file: Path
    changes: tuple[str, ...] = ()
    journal: str = ""
    home: str = ""
    storage: str = ""
    mlflow: str = ""
    accept_code: bool = False
    shipped: tuple[Path, ...] = ()
    env: str = "image"
    image: str = ""
    code: bool = False
    keep_on_head: bool = False

    @property
    def id(self) -> str:
        """The same for the same study at the same place, whoever submits it."""
        where = [self.spec.name, self.journal, self.home, self.storage]
        digest = _digest(msgspec.json.encode(where))[:8]
        called = re.sub(r"[^A-Za-z0-9_.-]", "-", self.spec.name)
        return f"rigorl-{called}-{digest}"

    @property
    def content(self) -> str:
        """Tells this spec from another one of the same name."""
        return _digest(msgspec.json.encode(self.spec, order="deterministic"))[:12]

    @property
    def places(self) -> dict[str, str]:
        """The words that say where a study is kept, as far as they were given."""
        named = ("home", "journal", "storage", "mlflow")
        return {name: getattr(self, name) for name in named if getattr(self, name)}

    @property
    def robots(self) -> dict[int, str]:
        """Under which name the model of each task travels that has one of its own."""
        own = {i: task.robot for i, task in enumerate(self.spec.tasks) if task.robot is not None}
        return {i: f"robot-{_digest(text.encode())[:12]}.xml" for i, text in own.items()}

    @property
    def modules(self) -> list[str]:
        """What must be importable there: dotted agents, and modules of environments."""
        agents = [arm.agent.name for arm in self.spec.arms.values()]
        worlds = [task.env.partition(":")[0] for task in self.spec.tasks if ":" in task.env]
        return sorted({name for name in agents if "." in name} | set(worlds))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def absolute(path: str) -> str:
    """Return a path that means the same there; `~` is read where it is used, by each node."""
    return path if not path or "://" in path or path.startswith("~") else str(Path(path).absolute())


def whole(url: str) -> str:
    """Return a journal's URL that means the same there, if it is a file."""
    file = url.removeprefix("sqlite:///")
    return url if file in (url, "") else f"sqlite:///{Path(file).absolute()}"


def attempt(id_: str, base: str) -> int:
    """Return which attempt of *base* the job *id_* is; 0 if none."""
    found = re.fullmatch(re.escape(base) + r"(?:-(\d+))?", id_)
    return int(found[1] or 1) if found else 0


def entrypoint(order: Order, there: Mapping[str, str]) -> str:
    """Return what the job's shell runs; RAY_ADDRESS is set there, to the job's own cluster.

    *there* says what places are called on the head. `exec`: a stop must reach rigorl, not a shell
    that would die before it.
    """
    words = ["python", "-m", "rigorl", "run", order.file.name]
    named = [f"tasks.{i}.robot={name}" for i, name in order.robots.items()]
    for change in (*order.changes, *named):
        words += ["--set", change]
    for name, value in {**order.places, **there}.items():
        words += [f"--{name}", value]
    if order.accept_code:
        words.append("--accept-code")
    return carried(order, f"exec {shlex.join(words)}", _models(order))


def _models(order: Order) -> dict[str, str]:
    """Return the models that travel beside the spec: each by its name, once."""
    return {name: order.spec.tasks[i].robot or "" for i, name in order.robots.items()}


def carried(order: Order, command: str, files: Mapping[str, str] | None = None) -> str:
    """Let *command* bring its files itself where no working directory can travel.

    Ray starts a container (`image_uri`) with nothing but variables.
    """
    if not order.image:
        return command
    brought = {order.file.name: order.file.read_text(), **(files or {})}
    parts = ['cd "$(mktemp -d)"']
    parts += [f"printf %s {shlex.quote(text)} > {shlex.quote(n)}" for n, text in brought.items()]
    return " && ".join([*parts, command])


def ask(order: Order) -> dict[str, Any]:
    """Return what the probe is asked."""
    return {
        "rigorl": probe.fingerprint(),
        "modules": order.modules,
        "home": order.home,
        "storage": order.storage,
        "journal": order.journal,
        "mlflow": order.mlflow,
    }


def lay_out(order: Order, folder: Path) -> None:
    """Put into *folder* what travels: the spec, its robots, the person's modules, the probe."""
    (folder / order.file.name).write_text(order.file.read_text())
    for name, text in {**probing(order), **_models(order)}.items():
        (folder / name).write_text(text)
    for path in order.shipped:
        _ship(path, folder / path.resolve().name)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            _refuse_secrets(path.read_bytes(), f"{path.relative_to(folder)}, which is sent,")


def _ship(path: Path, to: Path) -> None:
    if not path.exists():
        raise SpecError(
            f"--with must name a module or a package that is here, but {path} is not; "
            "correct the path"
        )
    if to.exists():
        raise SpecError(
            f"what is sent must have names of its own, but two things are called {to.name}; "
            "rename one of them"
        )
    try:
        if path.is_dir():
            shutil.copytree(path, to, ignore=LEFT_OUT)
        else:
            shutil.copy(path, to)
    except OSError as error:
        raise SpecError(
            f"what --with names must be readable, but of {path} is said: "
            f"{error.strerror or error}; mend that, or ship less"
        ) from error


def probing(order: Order) -> dict[str, str]:
    """Return the files of the probe."""
    script = Path(probe.__file__).read_text()
    return {SCRIPT: script, probe.ASK: msgspec.json.encode(ask(order)).decode()}


def runtime_env(order: Order, working_dir: Path, code: Path) -> dict[str, Any]:
    """Return in what the job runs: files of *working_dir*, and *code* filled if it must travel."""
    if order.image:
        return {"image_uri": order.image, "env_vars": ENV}
    env: dict[str, Any] = {"working_dir": str(working_dir), "env_vars": ENV}
    if order.code or order.env == "lock":
        source = Path(rigorl.__file__).parent
        shutil.copytree(source, code / "rigorl", ignore=LEFT_OUT, dirs_exist_ok=True)
        env["py_modules"] = [str(code / "rigorl")]
    if order.env == "lock":
        env["uv"] = {"packages": closure()}
    return env


def closure(of: str = "rigorl") -> list[str]:
    """Return what *of* needs, as it is installed here, each in exactly its version.

    Extras count as far as they are installed. Ray itself is left out: it is the cluster's.
    """
    pins: dict[str, str] = {}
    extras = {e for e in metadata.metadata(of).get_all("Provides-Extra") or () if e not in NOT_SENT}
    todo = [(of, extra) for extra in ("", *sorted(extras))]
    seen = set(todo)
    while todo:
        name, extra = todo.pop()
        for need in _needs(name, extra):
            try:
                version = Version(metadata.version(need.name))
            except metadata.PackageNotFoundError:
                continue
            pins[canonicalize_name(need.name)] = version.public  # a local build is not elsewhere
            more = {(need.name, part) for part in ("", *need.extras)} - seen
            seen |= more
            todo += sorted(more)
    return sorted(f"{name}=={version}" for name, version in pins.items() if name != "ray")


def _needs(name: str, extra: str) -> Iterator[Requirement]:
    for line in metadata.requires(name) or ():
        need = Requirement(line)
        if need.marker is None or need.marker.evaluate({"extra": extra}):
            yield need


def check_secrets(order: Order) -> None:
    """Refuse to send what would then stand in the job's command for all to read."""
    for word, url in order.places.items():
        if has_secret(url):
            raise SpecError(
                f"what is sent to a cluster must hold no secret, but --{word} "
                f"{shown(url)} has one, and the job's command can be read by all who see the "
                f"dashboard; {WAYS_OUT[word]}"
            )
    texts = [order.file.read_text(), *_models(order).values()]
    sent = "\n".join([*texts, *order.changes, *order.places.values()])
    _refuse_secrets(sent.encode(), "what is sent to a cluster")


def _refuse_secrets(content: bytes, what: str) -> None:
    for name in SECRETS:
        value = os.environ.get(name, "").encode()
        if len(value) > 3 and value in content:  # noqa: PLR2004  less is found anywhere
            raise SpecError(
                f"{what} must hold no secret, but the value of {name} is in it; take it out, and "
                "set the variable in the cluster's own environment"
            )


WAYS_OUT = {
    "journal": "name it without a password, which a file on the nodes can give (PGPASSFILE), or "
    "set RIGORL_JOURNAL in the cluster's own environment, and unset it here",
    "mlflow": "name it without, and set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or "
    "MLFLOW_TRACKING_URI, in the cluster's own environment, and unset it here",
    "storage": "name it without, and give the nodes their credentials in the cluster's own "
    "environment",
    "home": "home is a folder; name it without",
}
