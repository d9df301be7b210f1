"""An S3 of our own: moto's server, on a port of this machine, in a thread of this process."""

import json
import logging
import os
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory
from threading import Timer
from typing import NamedTuple

import pyarrow.fs
from moto.moto_api import recorder
from moto.server import ThreadedMotoServer

SECRET = "not-to-be-seen"  # noqa: S105
OURS = {
    "AWS_ACCESS_KEY_ID": "AKIANOBODY",
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_EC2_METADATA_DISABLED": "true",  # nobody there would answer
    "AWS_REGION": "us-east-1",
}


class Asked(NamedTuple):
    """A request that the server has had."""

    method: str
    key: str
    copied: bool


class S3:
    """A server, and a look behind the back of whoever uses it."""

    def __init__(self) -> None:
        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        self.server.start()
        host, self.port = self.server.get_host_and_port()
        self.host = f"{host}:{self.port}"
        self.files = pyarrow.fs.S3FileSystem(
            endpoint_override=self.host, scheme="http", allow_bucket_creation=True
        )

    def url(self, root: str) -> str:
        """Return what a person would write for *root*, bucket and prefix."""
        return f"s3://{root}?endpoint_override={self.host}&scheme=http"

    def keys(self, root: str) -> list[str]:
        """Return what files there are below *root*, by their paths below it."""
        found = self.files.get_file_info(pyarrow.fs.FileSelector(root, recursive=True))
        return sorted(info.path.removeprefix(f"{root}/") for info in found if info.is_file)

    def read(self, key: str) -> bytes:
        with self.files.open_input_stream(key) as file:
            return bytes(file.read())

    def write(self, key: str, content: bytes) -> None:
        with self.files.open_output_stream(key) as file:
            file.write(content)

    @contextmanager
    def listening(self) -> Iterator[list[Asked]]:
        """Lend a list that holds, in the end, what was asked meanwhile."""
        asked: list[Asked] = []
        with TemporaryDirectory() as folder:
            recorder._location = f"{folder}/asked"  # else where the test stands
            self._tell("recorder/reset-recording")
            self._tell("recorder/start-recording")
            yield asked
            self._tell("recorder/stop-recording")
            told = self._tell("recorder/download-recording", "GET").decode()
        for line in map(json.loads, told.splitlines()):
            headers = {name.lower() for name in line["headers"]}
            key = line["url"].split(self.host, 1)[1].partition("?")[0]
            asked.append(Asked(line["method"], key, "x-amz-copy-source" in headers))

    @contextmanager
    def refusing(self) -> Iterator[None]:
        """Look at credentials meanwhile: nobody has any that are known."""
        self._tell("reset-auth", body=b"0")
        try:
            yield
        finally:
            self._tell("reset-auth", body=b"inf")

    def go_away(self, seconds: float) -> None:
        """Answer nobody from now on, and come back after *seconds* with all that there was."""
        self.server.stop()
        self.server = ThreadedMotoServer(ip_address="127.0.0.1", port=self.port, verbose=False)
        Timer(seconds, self.server.start).start()

    def _tell(self, what: str, method: str = "POST", body: bytes = b"") -> bytes:
        url = f"http://{self.host}/moto-api/{what}"
        plain = {"Content-Type": "text/plain"}
        with urllib.request.urlopen(
            urllib.request.Request(url, body or None, plain, method=method)
        ) as answer:
            return bytes(answer.read())


@contextmanager
def served(bucket: str = "") -> Iterator[S3]:
    """Lend a server, with a *bucket* in it, and credentials in this process's environment."""
    before = {key: os.environ.get(key) for key in OURS}
    os.environ.update(OURS)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    s3 = S3()
    if bucket:
        s3.files.create_dir(bucket)
    try:
        yield s3
    finally:
        s3.server.stop()
        for key, value in before.items():
            os.environ.pop(key)
            if value is not None:
                os.environ[key] = value
