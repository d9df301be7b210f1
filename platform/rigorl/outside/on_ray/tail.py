"""What a job prints, line by line as it comes, over connections that may break."""

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import suppress

import aiohttp

from rigorl.errors import JobError
from rigorl.outside.on_ray.jobs import Client, Unreachable, info

AWAY_S = 20.0
"""Seconds for which a cluster that went away is asked again."""
SILENT_S = 60.0
"""Seconds of silence after which a connection is made anew: this one may be dead."""
PAUSE_S = 1.0
log = logging.getLogger("rigorl")


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
