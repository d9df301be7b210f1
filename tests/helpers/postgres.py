"""A PostgreSQL of our own, from Debian's packages, on a socket in a folder and nowhere else."""

import os
import pwd
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest


class Postgres:
    """A server that can be started, killed and started again. Not as root: it refuses."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "data"
        self.bin = _binaries()
        self.user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
            for above in [folder, *folder.parents]:
                if above.stat().st_uid == 0 and not above.stat().st_mode & 1:
                    above.chmod(above.stat().st_mode | 0o711)
        self._run("initdb", "-D", str(self.data), "--auth=trust", "-U", "rigorl", "--no-sync")

    @property
    def url(self) -> str:
        return f"postgresql://rigorl@/postgres?host={self.folder}"

    def start(self) -> None:
        """Start; after a `kill`, as soon as the orphans of the old server are gone."""
        options = f"-c listen_addresses='' -c unix_socket_directories='{self.folder}'"
        log = str(self.folder / "log")
        for left in reversed(range(60)):
            try:
                self._run("pg_ctl", "-D", str(self.data), "-l", log, "-o", options, "-w", "start")
            except AssertionError:
                if not left:
                    raise
                time.sleep(0.5)
            else:
                return

    def stop(self) -> None:
        self._run("pg_ctl", "-D", str(self.data), "-m", "fast", "-w", "stop")

    def kill(self) -> None:
        """Kill the server as a loss of power would, and wait until it is gone."""
        pid = int((self.data / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, signal.SIGKILL)
        while Path(f"/proc/{pid}").exists():
            time.sleep(0.05)

    def _run(self, program: str, *words: str) -> None:
        user = {"user": self.user} if os.geteuid() == 0 else {}
        command = [str(self.bin / program), *words]
        done = subprocess.run(
            command,
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
            **user,
        )
        assert done.returncode == 0, done.stderr + done.stdout


def _binaries() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    if not found and not os.environ.get("CI"):
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    return found[-1].parent
