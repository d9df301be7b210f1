"""A study as a job on a Ray cluster, through its dashboard: sent once, followed, stopped.

Ray's Jobs API runs a command on the head and keeps what it prints as long as the head lives. It
neither tries again nor remembers: the journal does, and the same submit is the resume.
"""

import logging
import secrets
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

import msgspec

from rigorl.errors import JobError, RigorlError
from rigorl.outside.on_ray import order as orders
from rigorl.outside.on_ray import probe
from rigorl.outside.on_ray.dashboard import Away, Client, Refused
from rigorl.outside.on_ray.order import Order

PROBE_S, INSTALL_S = 120.0, 900.0
"""Seconds that the probe has, and where an environment or an image must be fetched first."""
LOOK_S, TELL_S = 0.2, 15.0
"""Seconds between two looks at a job that is short, and until it is said that it is not."""
NOT_FOUND = 404
OVER = ("SUCCEEDED", "FAILED", "STOPPED")
STOPPED = (130, 143)
"""What a driver returns that was stopped otherwise than by Ray."""
STUDY, PROBED, CONTENT = "rigorl_study", "rigorl_probe_of", "rigorl_content"
log = logging.getLogger("rigorl")


class Job(NamedTuple):
    """What the cluster knows of a job. `code` is what its command returned, if it ended."""

    id: str
    state: str
    code: int | None
    message: str
    begun: float
    ended: float
    content: str = ""
    """Of which spec it is, as `Order.content` tells it."""

    @property
    def over(self) -> bool:
        return self.state in OVER

    @property
    def how(self) -> str:
        """How it is, in a word or two; why it failed, in its own last ones."""
        if self.code in STOPPED:
            return "stopped"
        code = f", exit code {self.code}" if self.code else ""
        why = _last_words(self.message) if self.state == "FAILED" else ""
        return f"{self.state.lower()}{code}" + (f" ({why})" if why else "")


def of_study(client: Client, study: str) -> list[Job]:
    """Return the jobs that play *study*, the latest last."""
    found = [info for info in client.list_jobs() if (info.metadata or {}).get(STUDY) == study]
    return sorted(map(_job, found), key=lambda job: job.begun)


def info(client: Client, id_: str) -> Job:
    """Return what the cluster knows of a job; `Away` if it knows nothing, or says nothing."""
    try:
        return _job(client.get_job_info(id_))
    except Refused as error:
        if error.code != NOT_FOUND:
            raise
        raise Away(
            f"a job must be one that the cluster knows, but {id_} is not: its head began anew; "
            "the same submit goes on"
        ) from error


def _job(found: Any) -> Job:
    return Job(
        id=found.submission_id,
        state=str(getattr(found.status, "value", found.status)),
        code=found.driver_exit_code,
        message=(found.message or "").strip(),
        begun=(found.start_time or 0) / 1000,
        ended=(found.end_time or 0) / 1000,
        content=(found.metadata or {}).get(CONTENT, ""),
    )


def running(client: Client, order: Order) -> tuple[Job | None, int]:
    """Return the job that plays *order* now, if one does, and how many there were."""
    jobs = of_study(client, order.spec.name)
    tried = {orders.attempt(job.id, order.id): job for job in jobs}
    last = max(tried, default=0)
    if last and not tried[last].over:
        return check_content(tried[last], order), last
    return None, last


def check_content(job: Job, order: Order) -> Job:
    """Refuse to attach to a job that plays another spec of this name; return the job."""
    if not job.over and job.content and job.content != order.content:
        raise JobError(
            f"who submits a study that is being played must mean the same spec, but {job.id} plays "
            f"{order.spec.name!r} from another one; wait for its end, or `rigorl stop` it, and "
            "give the same command again"
        )
    return job


class Load:
    """What travels with a study, packed once for the probe and the job. Use as a context."""

    def __init__(self, client: Client, order: Order) -> None:
        self.client, self.order = client, order
        self._folder = tempfile.TemporaryDirectory(prefix="rigorl-")

    def __enter__(self) -> Self:
        top = Path(self._folder.name)
        working_dir, code = top / "work", top / "code"
        working_dir.mkdir()
        code.mkdir()
        try:
            orders.lay_out(self.order, working_dir)
            self.env = orders.runtime_env(self.order, working_dir, code)
        except RigorlError:
            self._folder.cleanup()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._folder.cleanup()

    def probe(self) -> dict[str, Any]:
        """Return what a short job finds on the cluster."""
        files = orders.probing(self.order) if self.order.image else None
        command = orders.carried(self.order, f"exec python {orders.SCRIPT}", files)
        id_ = f"rigorl-probe-{secrets.token_hex(6)}"
        self._send(id_, command, PROBED)
        try:
            job = self._end_of(id_)
            said = self.client.get_job_logs(id_)
        finally:
            with suppress(JobError):
                self.client.stop_job(id_)  # if nobody waits for it any longer
                self.client.delete_job(id_)
        for line in said.splitlines():
            if line.startswith(probe.MARK):
                return dict(msgspec.json.decode(line.removeprefix(probe.MARK)))
        raise JobError(
            "a cluster must be able to run a small job before it gets a study, but the probe "
            f"ended as {job.state}: {_last_words(said) or _last_words(job.message)}; its shell "
            "must find `python`, and its environment must be one that Ray can make"
        )

    def _end_of(self, id_: str) -> Job:
        start, told = time.monotonic(), False
        patience = INSTALL_S if self.order.env == "lock" or self.order.image else PROBE_S
        while not (job := info(self.client, id_)).over:
            waited = time.monotonic() - start
            if waited > patience:
                raise JobError(
                    "a cluster must be able to run a small job before it gets a study, but the "
                    f"probe did not end within {patience:.0f} s; look at the dashboard for why"
                )
            if waited > TELL_S and not told:
                log.warning(
                    "the cluster makes the environment, and is looked at from the inside: "
                    "%.0f s at most",
                    patience,
                )
                told = True
            time.sleep(LOOK_S)
        return job

    def submit(self, attempt: int, facts: Mapping[str, Any]) -> tuple[str, bool]:
        """Send the study as its job number *attempt*. Return its id, and whether it is ours.

        Home and storage are called what the probe, by its *facts*, found them to be.

        Ray takes an id once: of two who submit at the same moment, one is told that the
        other was faster.
        """
        id_ = self.order.id if attempt == 1 else f"{self.order.id}-{attempt}"
        there = {"home": facts["home"], "storage": facts["kept"]["storage"]}
        named = {name: place for name, place in there.items() if place}
        try:
            self._send(id_, orders.entrypoint(self.order, named), STUDY)
        except Refused as error:
            if "already exists" not in error.text:
                raise
            return check_content(info(self.client, id_), self.order).id, False
        return id_, True

    def _send(self, id_: str, command: str, role: str) -> None:
        self.client.submit_job(
            entrypoint=command,
            submission_id=id_,
            runtime_env=self.env,
            metadata={role: self.order.spec.name, CONTENT: self.order.content},
        )


def _last_words(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:500] if lines else ""


def stop(client: Client, job: Job) -> None:
    """Ask Ray to end the job, as SIGTERM does."""
    client.stop_job(job.id)
