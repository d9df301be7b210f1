"""A study as a job on a Ray cluster, through its dashboard: sent once, followed, stopped.

Ray's Jobs API runs a command on the head and keeps what it prints as long as the head lives. It
neither tries again nor remembers: the journal does, and the same submit is the resume.
"""

import logging
import os
import secrets
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

import msgspec
import ray
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient

from rigorl.errors import JobError
from rigorl.outside.on_ray import order as orders
from rigorl.outside.on_ray import probe
from rigorl.outside.on_ray.order import Order, shown

ANSWER_S = 20.0
"""Seconds that the cluster has to answer a question."""
PROBE_S = 120.0
"""Seconds that the probe has: a new environment may have to be installed first."""
CHATTY = (
    "dashboard.modules.job.sdk",
    "dashboard.modules.dashboard_sdk",
    "_private.runtime_env.packaging",
)
"""Loggers of Ray's that tell what nobody asked."""
LOOK_S = 0.2
"""Seconds between two looks at a job that is short."""
NOT_FOUND = 404
OVER = ("SUCCEEDED", "FAILED", "STOPPED")
STOPPED = (130, 143)
"""What a driver returns that was stopped otherwise than by Ray."""
STUDY, PROBED = "rigorl_study", "rigorl_probe_of"
log = logging.getLogger("rigorl")


class Job(NamedTuple):
    """What the cluster knows of a job. `code` is what its command returned, if it ended."""

    id: str
    state: str
    code: int | None
    message: str
    begun: float
    ended: float

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


class Away(JobError):  # noqa: N818  the house's words
    """The cluster has forgotten the job, or cannot be asked."""


class Unreachable(Away):
    """The cluster does not answer."""


class Refused(JobError):  # noqa: N818  the house's words
    """The cluster's dashboard answers that it will not; `code` is HTTP's."""

    def __init__(self, code: int, text: str) -> None:
        last = text.strip().splitlines()[-1] if text.strip() else f"HTTP {code}"
        super().__init__(
            f"a cluster must do what it is asked, but its dashboard says: {last}; its logs say more"
        )
        self.code, self.text = code, text


class Client(JobSubmissionClient):  # type: ignore[misc]
    """Ray's own, which would wait for ever for an answer, and has errors of many kinds."""

    def _do_request(self, *words: Any, **named: Any) -> Any:
        try:
            return super()._do_request(*words, **{"timeout": ANSWER_S, **named})
        except AuthenticationError as error:
            raise JobError(_no_entry(shown(self._address), str(error))) from error
        except requests.RequestException as error:
            raise Unreachable(
                "the cluster must answer, but it went away; the journal knows how far the study is"
            ) from error

    def _raise_error(self, r: requests.Response) -> None:
        raise Refused(r.status_code, r.text)


def connect(address: str) -> Client:
    """Return a client of the dashboard at *address*; refuse what is not one, or another Ray."""
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        os.environ.pop(name, None)  # Ray's client would take these before what we say
    for name in CHATTY:
        logging.getLogger(f"ray.{name}").setLevel(logging.WARNING)
    url = address if "://" in address else f"http://{address}"
    called = shown(url)
    if not url.startswith(("http://", "https://")):
        raise JobError(
            f"a cluster's address must be that of its dashboard, but is {called}; as "
            "http://head:8265"
        )
    try:
        client = Client(url)
    except Unreachable as error:
        raise JobError(
            f"a Ray cluster must answer at --address, but nothing does at {called}; start it, "
            "forward its port, or correct the address"
        ) from error
    except (requests.RequestException, RuntimeError, LookupError, TypeError, ValueError) as error:
        raise JobError(
            f"at --address must be the dashboard of a Ray cluster, but what answers at {called} "
            "is something else; it is the one at port 8265 of the head"
        ) from error
    theirs = client._server_ray_version  # noqa: SLF001  it has just been asked
    if theirs != ray.__version__:
        raise JobError(
            f"a cluster must be of the Ray that is here, but {called} runs Ray {theirs} and this "
            f"is {ray.__version__}; install that one here, or use another image there"
        )
    return client


def _no_entry(address: str, said: str) -> str:
    if "required" in said:
        return (
            f"a cluster with tokens must be given one, but {address} got none; set "
            "RAY_AUTH_MODE=token and RAY_AUTH_TOKEN (or RAY_AUTH_TOKEN_PATH), here and nowhere else"
        )
    return (
        f"a token must be the cluster's own, but {address} refused it; correct RAY_AUTH_TOKEN "
        "(or the file at RAY_AUTH_TOKEN_PATH)"
    )


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
    )


def running(client: Client, order: Order) -> tuple[Job | None, int]:
    """Return the job that plays *order* now, if one does, and how many there were."""
    jobs = of_study(client, order.spec.name)
    tried = {orders.attempt(job.id, order.id): job for job in jobs}
    last = max(tried, default=0)
    if last and not tried[last].over:
        return tried[last], last
    return None, last


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
        orders.lay_out(self.order, working_dir)
        self.env = orders.runtime_env(self.order, working_dir, code)
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
        start = time.monotonic()
        while not (job := info(self.client, id_)).over:
            if time.monotonic() - start > PROBE_S:
                self.client.stop_job(id_)
                raise JobError(
                    "a cluster must be able to run a small job before it gets a study, but the "
                    f"probe did not end within {PROBE_S:.0f} s; look at the dashboard for why"
                )
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
        named = {k: v for k, v in there.items() if v and (k == "home" or self.order.storage)}
        try:
            self._send(id_, orders.entrypoint(self.order, named), STUDY)
        except Refused as error:
            if "already exists" not in error.text:
                raise
            return id_, False
        return id_, True

    def _send(self, id_: str, command: str, role: str) -> None:
        self.client.submit_job(
            entrypoint=command,
            submission_id=id_,
            runtime_env=self.env,
            metadata={role: self.order.spec.name},
        )


def _last_words(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:500] if lines else ""


def stop(client: Client, job: Job) -> None:
    """Ask Ray to end the job, as SIGTERM does."""
    client.stop_job(job.id)
