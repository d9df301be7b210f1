"""One driver at a time: a row that its holder renews, and whoever finds it still may take.

No clocks are compared. A holder shows that it lives by counting `beats`; who wants the lease
watches them for a while by its own clock. A holder whose process is gone from this machine is
not waited for. Each new holder raises `fence`, and every write looks at it first: a driver
that was taken for dead, and wakes up, writes nothing more.

With each sign of life a driver looks whether it is asked to stop, from wherever it may be.
"""

import logging
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import psutil
import sqlalchemy as sa

from rigorl.errors import JournalError
from rigorl.outside.journal.database import Database, Work, insert_new, replace
from rigorl.outside.journal.tables import leases, stops
from rigorl.outside.signals import stop_myself

BEAT = 2.0
"""Seconds between two signs of life."""
WATCH = 10.0
"""Seconds without one after which a holder counts as dead."""
LAST_PATIENCE = 5.0
"""Seconds that the end of a program waits for a database that went away."""
log = logging.getLogger("rigorl.journal")


class Holder(msgspec.Struct, frozen=True):
    """A process, told apart from one that gets its number later."""

    host: str
    boot: str
    pid: int
    born: float

    def is_elsewhere(self) -> bool:
        """Say whether this process is on another machine, where we cannot look."""
        return self.host != myself().host

    def is_gone(self) -> bool:
        """Say whether this process is known to have ended: only its own machine can tell."""
        if self.is_elsewhere():
            return False
        here = myself()
        if self.boot != here.boot:
            return True
        try:
            ended = psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE
            return ended or born(self.pid) != self.born
        except (psutil.NoSuchProcess, FileNotFoundError):
            return True

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def myself() -> Holder:
    """Return what this process is called as a holder.

    Processes of another container are on another host: their numbers mean nothing here.
    """
    namespace, boot = Path("/proc/self/ns/pid"), Path("/proc/sys/kernel/random/boot_id")
    inside = f" {namespace.readlink()}" if namespace.is_symlink() else ""
    return Holder(
        host=f"{socket.gethostname()}{inside}",
        boot=boot.read_text().strip() if boot.exists() else "",
        pid=os.getpid(),
        born=born(os.getpid()),
    )


def born(pid: int) -> float:
    """Return when the process *pid* began, in a unit that no correction of clocks moves."""
    stat = Path(f"/proc/{pid}/stat")
    if not stat.parent.parent.joinpath("self").exists():
        return psutil.Process(pid).create_time()
    return float(stat.read_text().rpartition(")")[2].split()[19])  # ticks since the boot


Found = sa.Row[tuple[str, str | None, int, int]] | None


def look(database: Database, study: str) -> Found:
    """Return the row of *study*, if it ever had a driver."""
    query = sa.select(leases).where(leases.c.study == study)
    return database.read(lambda db: db.execute(query).one_or_none())


def is_driven(database: Database, study: str) -> bool:
    """Say whether somebody holds the lease and may be alive; elsewhere, that is not known."""
    found = look(database, study)
    if found is None or found.holder is None:
        return False
    return not msgspec.json.decode(found.holder, type=Holder).is_gone()


def ask_to_stop(database: Database, study: str, at: int) -> None:
    """Ask the driver of *study* to stop; it looks every few seconds."""
    database.write(lambda db: replace(db, stops, [{"study": study, "at": at}]))


def forget_stop(db: sa.Connection, study: str) -> None:
    """Let what was asked of an earlier driver of *study* not count for this one."""
    db.execute(stops.delete().where(stops.c.study == study))


class Lease:
    """The right to write about *study*, from `take` to `release`.

    Who `obeys` stops, once, as at a SIGTERM, when `ask_to_stop` says so.
    """

    def __init__(self, database: Database, study: str, *, obeys: bool = False) -> None:
        self.database, self.study, self.obeys = database, study, obeys
        self.fence = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)

    def take(self) -> None:
        """Become the driver of the study; refuse while another one lives."""
        found = self._look()
        if found is not None and found.holder is not None:
            holder = msgspec.json.decode(found.holder, type=Holder)
            if not holder.is_gone():
                self._watch(holder, found.beats)
        self.fence = self.database.write(lambda db: self._seize(db, found))
        self._thread.start()

    def check(self, db: sa.Connection) -> None:
        """Refuse, within a transaction that is about to write, if another driver took over."""
        query = sa.select(leases.c.fence).where(leases.c.study == self.study)
        if not self.database.is_file:
            query = query.with_for_update()
        if db.scalar(query) != self.fence:
            raise JournalError(
                f"a study must have one driver, but another one has taken over {self.study!r}: "
                "this one did not give a sign of life for a while; it ends here, and the other "
                "one goes on"
            )

    def release(self, work: Work[Any] | None = None) -> None:
        """Let the next driver begin, and *work* write a last time if the study is still ours."""
        self._stop.set()
        self._thread.join()
        self.database.write(lambda db: self._let_go(db, work), patience=LAST_PATIENCE)

    def _let_go(self, db: sa.Connection, work: Work[Any] | None) -> None:
        ours = (leases.c.study == self.study) & (leases.c.fence == self.fence)
        if db.execute(leases.update().where(ours).values(holder=None)).rowcount and work:
            work(db)

    def _look(self) -> Found:
        return look(self.database, self.study)

    def _watch(self, holder: Holder, beats: int) -> None:
        """Return when *holder* has given no sign of life for so long that it counts as dead."""
        log.warning("%r was being driven by %s; waiting for a sign of life", self.study, holder)
        start = time.monotonic()
        while time.monotonic() - start < WATCH:
            time.sleep(BEAT / 4)
            found = self._look()
            if found is None or found.holder is None:
                return
            if found.beats != beats:
                raise JournalError(
                    f"a study must have one driver, but {self.study!r} is being driven by "
                    f"{holder}; wait for it, or stop it and give the same command again"
                )

    def _seize(self, db: sa.Connection, found: Found) -> int:
        """Write ourselves into the row, if it is still as it was *found*; return our fence."""
        holder, fence = msgspec.json.encode(myself()).decode(), 1
        if found is None:
            row = {"study": self.study, "holder": holder, "fence": fence, "beats": 0}
            taken = insert_new(db, leases, [row])
        else:
            fence = found.fence + 1
            same = (leases.c.study == self.study) & (leases.c.fence == found.fence)
            ours = leases.update().where(same).values(holder=holder, fence=fence, beats=0)
            taken = db.execute(ours).rowcount
        if not taken and not self._is_ours(db, holder, fence):
            raise JournalError(
                f"a study must have one driver, but another one took {self.study!r} just now; "
                "wait for it, or stop it and give the same command again"
            )
        return fence

    def _is_ours(self, db: sa.Connection, holder: str, fence: int) -> bool:
        """Say whether we took it already: the answer to the first asking may have been lost."""
        row = db.execute(sa.select(leases).where(leases.c.study == self.study)).one()
        return (row.holder, row.fence) == (holder, fence)

    def _beat(self) -> None:
        while not self._stop.wait(BEAT):
            try:
                asked = self.database.write(self._show_life, patience=BEAT)
            except JournalError as error:  # the next write of the driver will say it
                log.warning("%s", error)
                continue
            if asked and self.obeys and not self._stop.is_set():
                self.obeys = False
                log.warning("somebody asked %r to stop", self.study)
                stop_myself()

    def _show_life(self, db: sa.Connection) -> bool:
        """Count a beat, and say whether a stop is asked for."""
        ours = (leases.c.study == self.study) & (leases.c.fence == self.fence)
        db.execute(leases.update().where(ours).values(beats=leases.c.beats + 1))
        return db.scalar(sa.select(stops.c.at).where(stops.c.study == self.study)) is not None
