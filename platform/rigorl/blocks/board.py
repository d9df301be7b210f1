"""A board on which processes leave notes for each other, kept by one of them.

Torch's own, `TCPStore`, looks up the name of whoever connects, by a DNS that may take seconds,
and asks nobody for a token. What is needed here are a few notes, each written once.
"""

import hmac
import socket
import threading
from collections.abc import Sequence
from datetime import timedelta
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any

import msgspec
import torch.distributed
from msgspec import Struct

from rigorl.errors import CrewError

POLL = 0.02
"""Seconds until the keeper notices that its board is closed."""
dist: Any = torch.distributed  # whose types hide half of it
Store: Any = dist.Store


class Ask(Struct, frozen=True, array_like=True):
    """Leave the note *value*, or, without one, read it as soon as it is there."""

    token: str
    key: str
    value: bytes | None = None


class Board(Store):  # type: ignore[misc]
    """The keeper's side. Groups of torch meet by it, so it has the methods of their stores."""

    def __init__(self, host: str, token: str, patience: float) -> None:
        super().__init__()
        self.token, self.patience = token, patience
        self._notes: dict[str, bytes] = {}
        self._changed, self._closed = threading.Condition(), False
        board = self

        class Handler(StreamRequestHandler):
            def handle(self) -> None:
                board._serve(self)

        self._server = ThreadingTCPServer((host, 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(POLL,), daemon=True).start()

    def leave(self, key: str, value: bytes) -> bool:
        """Leave a note, and say whether it is the first of its name. Others are dropped."""
        with self._changed:
            new = self._notes.setdefault(key, value) is value
            self._changed.notify_all()
            return new

    def see(self, keys: Sequence[str], seconds: float) -> bool:
        """Say whether all notes are there, after so many seconds at most."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or all(key in self._notes for key in keys), seconds
            )
            return not self._closed and all(key in self._notes for key in keys)

    def set(self, key: str, value: bytes) -> None:
        self.leave(key, value)

    def get(self, key: str) -> bytes:
        self.wait([key])
        return self._notes[key]

    def wait(self, keys: Sequence[str], timeout: timedelta | None = None) -> None:
        if not self.see(keys, timeout.total_seconds() if timeout else self.patience):
            raise CrewError(f"all ranks must leave a note, but {', '.join(keys)} did not come")

    def close(self) -> None:
        """Send away all who still wait."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()

    def _serve(self, visitor: StreamRequestHandler) -> None:
        for line in visitor.rfile:
            try:
                ask = msgspec.json.decode(line, type=Ask)
                if not hmac.compare_digest(ask.token.encode(), self.token.encode()):
                    return
                answer: Any = self.leave(ask.key, ask.value) if ask.value is not None else None
                if ask.value is None:
                    answer = self.get(ask.key)
                visitor.wfile.write(msgspec.json.encode(answer) + b"\n")
            except (CrewError, msgspec.MsgspecError, OSError):
                return  # and the visitor hears that it is alone


class Visit(Store):  # type: ignore[misc]
    """A board that another process keeps."""

    def __init__(self, host: str, port: int, token: str, patience: float) -> None:
        super().__init__()
        self.token, self.at = token, f"{host}:{port}"
        try:
            self._socket = socket.create_connection((host, port), patience)
        except OSError as error:
            raise CrewError(
                f"a follower must find its leader, but at {self.at}: {error}"
            ) from error
        self._file = self._socket.makefile("rwb")

    def leave(self, key: str, value: bytes) -> bool:
        new: bool = self._ask(Ask(self.token, key, value), bool)
        return new

    def set(self, key: str, value: bytes) -> None:
        self.leave(key, value)

    def get(self, key: str) -> bytes:
        value: bytes = self._ask(Ask(self.token, key), bytes)
        return value

    def wait(self, keys: Sequence[str], timeout: timedelta | None = None) -> None:
        del timeout  # the keeper's patience ends first
        for key in keys:
            self.get(key)

    def close(self) -> None:
        self._file.close()
        self._socket.close()

    def _ask(self, ask: Ask, kind: type[Any]) -> Any:
        try:
            self._file.write(msgspec.json.encode(ask) + b"\n")
            self._file.flush()
            return msgspec.json.decode(self._file.readline(), type=kind)
        except (OSError, msgspec.MsgspecError) as error:
            raise CrewError(
                f"a follower must find its leader, but at {self.at} it has left, or another one "
                "is there"
            ) from error
