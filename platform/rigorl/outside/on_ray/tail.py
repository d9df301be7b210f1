"""What a job prints, line by line as it comes, over connections that may break."""

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import suppress

import aiohttp

from rigorl.errors import JobError
from rigorl.outside.on_ray.dashboard import Client, Refused, Unreachable
from rigorl.outside.on_ray.jobs import info

AWAY_S = 20.0
"""Seconds for which a cluster that went away is asked again."""
SILENT_S = 60.0
"""Seconds of silence after which a connection is made anew: this one may be dead."""
PAUSE_S = 1.0
BROKEN = (TimeoutError, RuntimeError, OSError, aiohttp.ClientError, JobError)
"""As what a connection that breaks shows."""
log = logging.getLogger("rigorl")


def tail(client: Client, id_: str) -> Iterator[str]:
    """Yield what a job prints, line by line, each once, until it ends.

    A connection that breaks is made again; what was read already is not read twice. `Away`
    when the cluster stays away, or no longer knows the job.
    """
    read, rest, gone = 0, "", 0.0
    over = False
    while not over:
        for text in _stream(client, id_, read):
            read, gone = read + len(text), 0.0
            *lines, rest = (rest + text).split("\n")
            yield from lines
        try:
            over = info(client, id_).over
            missed = _missed(client, id_, read) if over else ""
        except Unreachable:
            over, missed = False, ""
            if not gone:
                log.warning("the cluster does not answer; asking again")
            gone = gone or time.monotonic()
            if time.monotonic() - gone > AWAY_S:
                raise
        *lines, rest = (rest + missed).split("\n")
        yield from lines
        if not over:
            time.sleep(PAUSE_S)
    if rest:
        yield rest


def _missed(client: Client, id_: str, read: int) -> str:
    """Return what a job that is over printed after *read* characters: a stream may end too soon."""
    try:
        return str(client.get_job_logs(id_)[read:])
    except Refused as error:
        log.warning("%s", error)
        return ""


def _stream(client: Client, id_: str, skip: int) -> Iterator[str]:
    """Yield what a job prints, without the first *skip* characters, over one connection.

    It ends when the job ends, and when the connection breaks; a server may end it sooner, too.
    """
    loop = asyncio.new_event_loop()
    chunks = client.tail_job_logs(id_)
    try:
        while True:
            chunk = loop.run_until_complete(asyncio.wait_for(anext(chunks), SILENT_S))
            dropped = min(skip, len(chunk))
            skip -= dropped
            if dropped < len(chunk):
                yield chunk[dropped:]
    except (StopAsyncIteration, *BROKEN):
        return  # whoever reads asks whether the job is over
    finally:
        for task in asyncio.all_tasks(loop):
            task.cancel()
        with suppress(RuntimeError, asyncio.CancelledError):
            loop.run_until_complete(chunks.aclose())
        loop.close()
