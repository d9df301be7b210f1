"""Which code made this: what git and the installed packages know. Asked once a process."""

import hashlib
import platform
import shutil
import subprocess
from functools import cache
from importlib.metadata import distributions, version
from pathlib import Path

ROOT = Path(__file__).parents[3]
"""Of a source checkout; of an installed package, some folder without the files asked for."""
DECIDING = ("rigorl", "ray", "torch", "numpy", "gymnasium", "mujoco", "optuna")


@cache
def provenance() -> dict[str, str]:
    """Return `git`, the commit (`-dirty` if changed since), and `lock`, a hash of versions."""
    return {**_commit(), "lock": _short(_versions())}


def software() -> dict[str, str]:
    """Return `provenance`, and the versions of what decides a result."""
    return {
        **provenance(),
        "python": platform.python_version(),
        **{name: version(name) for name in DECIDING},
    }


def _commit() -> dict[str, str]:
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        return {}  # a commit found from here would be that of somebody else's project
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],  # noqa: S607
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return {"git": said.stdout.strip()} if said.returncode == 0 else {}


def _versions() -> bytes:
    """Return the lock file of the checkout, else what is installed, one line a package."""
    lock = ROOT / ".ci" / "constraints.txt"
    if lock.exists():
        return lock.read_bytes()
    installed = {f"{dist.name.lower()}=={dist.version}" for dist in distributions()}
    return "\n".join(sorted(installed)).encode()


def _short(what: bytes) -> str:
    return hashlib.sha256(what).hexdigest()[:16]
