"""A Ray cluster of our own, started as a person starts one, and ended by its own pids."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil

RAY = Path(sys.executable).with_name("ray")
MEMORY = str(100 * 1024 * 1024)
SHORT = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path("/tmp")  # noqa: S108  sockets
START_S = 60


class Head:
    """A head with a dashboard. Its `session` is where it writes."""

    def __init__(self, env: Mapping[str, str], cpus: int = 2) -> None:
        self.cpus = cpus
        self.env = {**env, "PATH": f"{RAY.parent}{os.pathsep}{os.environ['PATH']}"}
        self.folder = Path(tempfile.mkdtemp(prefix="rh", dir=SHORT))
        self.port, self.gcs = free_port(), free_port()
        self._nodes: list[subprocess.Popen[bytes]] = []
        self.begin()

    def begin(self) -> None:
        """Start; after a `kill` this is a new cluster at the same address."""
        self._start(
            *("--head", "--port", str(self.gcs), "--dashboard-port", str(self.port)),
            *("--num-cpus", str(self.cpus), "--temp-dir", str(self.folder)),
        )
        until = time.monotonic() + START_S
        while not self._answers():
            assert time.monotonic() < until, "the head did not come up"
            time.sleep(0.1)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def add_node(self, **env: str) -> subprocess.Popen[bytes]:
        words = ("--address", f"127.0.0.1:{self.gcs}", "--num-cpus", "1")
        return self._start(*words, **env)

    def _start(self, *words: str, **env: str) -> subprocess.Popen[bytes]:
        agent = ("--dashboard-agent-listen-port", str(free_port()))
        command = [str(RAY), "start", "--block", *words, *agent, "--disable-usage-stats"]
        with (self.folder / "said").open("ab") as out:
            node = subprocess.Popen(
                [*command, "--object-store-memory", MEMORY],
                env={**self.env, **env},
                stdout=out,
                stderr=out,
            )
        self._nodes.append(node)
        return node

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"{self.address}/api/version", timeout=1)  # noqa: S310
        except urllib.error.HTTPError as error:
            return error.code == 401
        except OSError:
            return False
        return True

    def alive(self) -> int:
        """Return how many nodes the cluster has now."""
        with urllib.request.urlopen(f"{self.address}/nodes?view=summary") as answer:  # noqa: S310
            found = json.loads(answer.read())["data"]["summary"]
        return sum(node["raylet"]["state"] == "ALIVE" for node in found)

    def kill(self) -> None:
        """End it as a loss of power would: all at once."""
        self.lose(*self._nodes)

    def lose(self, *nodes: "subprocess.Popen[bytes]") -> None:
        """End *nodes* so."""
        ours = [p for node in nodes for p in family(node.pid)]
        for process in ours:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(ours, timeout=20)
        for node in nodes:
            node.wait()
            self._nodes.remove(node)

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def family(pid: int) -> list[psutil.Process]:
    """Return the process *pid* and all that came of it."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


@contextmanager
def head(env: Mapping[str, str], cpus: int = 2) -> Iterator[Head]:
    started = Head(env, cpus)
    try:
        yield started
    finally:
        started.close()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


class Wire:
    """Hands bytes on between who connects to it and *port*, until it is cut."""

    def __init__(self, port: int) -> None:
        self.target = port
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.listener.getsockname()[1])
        self.pairs: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self.listener.accept()
            except OSError:
                return
            far = socket.create_connection(("127.0.0.1", self.target))
            self.pairs += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=_hand_on, args=(one, other), daemon=True).start()

    def cut(self) -> int:
        """Break every connection that there is; return how many."""
        pairs, self.pairs = self.pairs, []
        for end in pairs:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        return len(pairs) // 2

    def close(self) -> None:
        self.listener.close()
        self.cut()


def _hand_on(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while part := one.recv(65536):
            other.sendall(part)
    with contextlib.suppress(OSError):
        other.shutdown(socket.SHUT_WR)
