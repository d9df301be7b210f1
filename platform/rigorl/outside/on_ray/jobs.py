"""A study as a job on a Ray cluster, through its dashboard: sent once, followed, stopped.

Ray's Jobs API runs a command on the head and keeps what it prints as long as the head lives. It
neither tries again nor remembers: the journal does, and the same submit is the resume.
"""

import asyncio
import logging
import os
import secrets
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Self

import aiohttp
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
AWAY_S = 20.0
"""Seconds for which a cluster that went away is asked again."""
SILENT_S = 60.0
"""Seconds of silence after which a tail is taken up anew: its connection may be dead."""
CHATTY = (
    "dashboard.modules.job.sdk",
    "dashboard.modules.dashboard_sdk",
    "_private.runtime_env.packaging",
)
"""Loggers of Ray's that tell what nobody asked."""
LOOK_S, PAUSE_S = 0.2, 1.0
NOT_FOUND = 404
OVER = ("SUCCEEDED", "FAILED", "STOPPED")
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
    known = [_job(info) for info in client.list_jobs() if info.submission_id]
    ours = [job for job in known if job.id.startswith(orders.family(study))]
    named = [job for job in ours if "-" not in _tail(job.id, study)]
    return sorted(named, key=lambda job: job.begun)


def _tail(id_: str, study: str) -> str:
    """Return what follows the family's name: a hash, and perhaps the number of the attempt."""
    rest = id_.removeprefix(orders.family(study))
    digest, _, number = rest.partition("-")
    good = len(digest) == 8 and (not number or number.isdigit())  # noqa: PLR2004
    return digest if good else "-"


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
        self._send(id_, command)
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

    def submit(self, attempt: int, home: str) -> tuple[str, bool]:
        """Send the study as its job number *attempt*. Return its id, and whether it is ours.

        Ray takes an id once: of two who submit at the same moment, one is told that the
        other was faster.
        """
        id_ = self.order.id if attempt == 1 else f"{self.order.id}-{attempt}"
        try:
            self._send(id_, orders.entrypoint(self.order, home))
        except Refused as error:
            if "already exists" not in error.text:
                raise
            return id_, False
        return id_, True

    def _send(self, id_: str, command: str) -> None:
        self.client.submit_job(
            entrypoint=command,
            submission_id=id_,
            runtime_env=self.env,
            metadata={"study": self.order.spec.name},
        )


def _last_words(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " / ".join(lines[-2:])[:500]


def stop(client: Client, job: Job) -> None:
    """Ask Ray to end the job, as SIGTERM does."""
    client.stop_job(job.id)


def tail(client: Client, id_: str) -> Iterator[str]:
    """Yield what a job prints, line by line, each once, until it ends.

    A connection that breaks is made again; what was read already is not read twice. `Away`
    when the cluster stays away, or no longer knows the job.
    """
    read, rest, gone = 0, "", 0.0
    over = False
    while not over:
        stream = _Stream(client, id_, read)
        for text in stream:
            read, gone = read + len(text), 0.0
            *lines, rest = (rest + text).split("\n")
            yield from lines
        try:
            over = info(client, id_).over and stream.whole
        except Unreachable:
            if not gone:
                log.warning("the cluster does not answer; asking again")
            gone = gone or time.monotonic()
            if time.monotonic() - gone > AWAY_S:
                raise
        if not over:
            time.sleep(PAUSE_S)
    if rest:
        yield rest


class _Stream:
    """One connection to what a job prints, without the first *skip* characters.

    It ends when the job ends, and is then `whole`, or when the connection breaks.
    """

    def __init__(self, client: Client, id_: str, skip: int) -> None:
        self.client, self.id, self.skip = client, id_, skip
        self.whole = False

    def __iter__(self) -> Iterator[str]:
        loop = asyncio.new_event_loop()
        chunks = self.client.tail_job_logs(self.id)
        try:
            while True:
                chunk = loop.run_until_complete(asyncio.wait_for(anext(chunks), SILENT_S))
                dropped = min(self.skip, len(chunk))
                self.skip -= dropped
                if dropped < len(chunk):
                    yield chunk[dropped:]
        except StopAsyncIteration:
            self.whole = True
        except (TimeoutError, RuntimeError, OSError, aiohttp.ClientError, JobError):
            pass  # whoever reads asks whether the job is over
        finally:
            for task in asyncio.all_tasks(loop):
                task.cancel()
            with suppress(RuntimeError, asyncio.CancelledError):
                loop.run_until_complete(chunks.aclose())
            loop.close()
