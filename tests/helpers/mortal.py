"""An actor that dies in the way that it is told."""

import ctypes
import os
import signal
import time
from pathlib import Path

import ray

from rigorl.errors import TrialFailed
from rigorl.outside.on_ray.deaths import leave_words


class Mortal:
    def __init__(self, words: Path | None = None) -> None:
        if words:
            leave_words(words)

    def pid(self) -> int:
        return os.getpid()

    def sleep(self) -> None:
        time.sleep(100)

    def do(self, how: str) -> None:
        getattr(self, how)()

    def segfault(self) -> None:
        ctypes.string_at(0)

    def abort(self) -> None:
        os.abort()

    def leave(self) -> None:
        raise SystemExit(3)

    def bring(self) -> None:
        import nowhere_at_all  # type: ignore[import-not-found]  # noqa: F401

    def fail_for_good(self) -> None:
        raise TrialFailed("loss must be finite, but is nan; lower lr")

    def grow(self) -> None:
        kept = []
        for _ in range(100):
            kept.append(bytearray(os.urandom(2**20)) * 64)
            time.sleep(0.02)

    def lose_a_crew(self) -> None:
        other = ray.remote(Mortal).options(num_cpus=0.1).remote()
        pid = ray.get(other.pid.remote())
        call = other.sleep.remote()
        os.kill(pid, signal.SIGKILL)
        ray.get(call)


def raise_in_two_steps() -> None:
    try:
        {}["inner"]
    except KeyError as error:
        raise ValueError("outer of\ntwo lines") from error


def hold() -> bytearray:
    return bytearray(2**20)
