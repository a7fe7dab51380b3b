"""Where failures are remembered, to be tried first: the local folder, and layers for all machines.

A layer that is down or slow is left out from then on, with one warning. It changes no verdict.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TypeVar
from urllib.parse import urldefrag, urlsplit

from hypothesis.database import (
    DirectoryBasedExampleDatabase,
    ExampleDatabase,
    GitHubArtifactDatabase,
    MultiplexedDatabase,
    ReadOnlyDatabase,
)

from frostproof.errors import UsageError, one_line

ANSWER_TIMEOUT_S = 2.0
"""Time within which a Redis server must answer each call."""

TOTAL_TIMEOUT_S = 10.0
"""Time that a process waits for a layer, all calls together."""

READ_ONLY, GITHUB = "readonly:", "github:"
ARTIFACT = "frostproof-examples"
DatabaseAnswer = TypeVar("DatabaseAnswer")
_DIGEST_SIZE = hashlib.sha384().digest_size


class KeyedDatabase(ExampleDatabase):
    """`layers` under a key of our own.

    The key of Hypothesis depends on the folder of the test and on the name of its item.
    """

    def __init__(self, layers: ExampleDatabase, key: str) -> None:
        super().__init__()
        self.layers, self.key = layers, key.encode()

    def _own(self, key: bytes) -> bytes:
        """Replace the digest; what follows it names a part of the database, as `.secondary`."""
        return self.key + key[_DIGEST_SIZE:]

    def fetch(self, key: bytes) -> Iterable[bytes]:
        return self.layers.fetch(self._own(key))

    def save(self, key: bytes, value: bytes) -> None:
        self.layers.save(self._own(key), value)

    def delete(self, key: bytes, value: bytes) -> None:
        self.layers.delete(self._own(key), value)

    def move(self, src: bytes, dest: bytes, value: bytes) -> None:
        self.layers.move(self._own(src), self._own(dest), value)


class FailsafeDatabase(ExampleDatabase):
    """A layer that may fail. `build` connects to it on first use; `warn` is called at most once."""

    def __init__(
        self, name: str, build: Callable[[], ExampleDatabase], warn: Callable[[str], None]
    ) -> None:
        super().__init__()
        self.name, self.build, self.warn = name, build, warn
        self.layer: ExampleDatabase | None = None
        self.left_out = False
        self.waited = 0.0

    def fetch(self, key: bytes) -> Iterable[bytes]:
        return self._ask(lambda layer: list(layer.fetch(key))) or []

    def save(self, key: bytes, value: bytes) -> None:
        self._ask(lambda layer: layer.save(key, value))

    def delete(self, key: bytes, value: bytes) -> None:
        self._ask(lambda layer: layer.delete(key, value))

    def move(self, src: bytes, dest: bytes, value: bytes) -> None:
        self._ask(lambda layer: layer.move(src, dest, value))

    def _ask(self, question: Callable[[ExampleDatabase], DatabaseAnswer]) -> DatabaseAnswer | None:
        """Return the layer's answer, or None if it fails or has been left out."""
        if self.left_out:
            return None
        started, answer = time.monotonic(), None
        try:
            if self.layer is None:
                self.layer = self.build()
            answer = question(self.layer)
        except Exception as error:  # A client library may raise anything.
            self._leave_out(f"{type(error).__name__}: {error}")
        self.waited += time.monotonic() - started
        if self.waited > TOTAL_TIMEOUT_S:
            self._leave_out(f"it took {self.waited:.0f} s to answer")
        return answer

    def _leave_out(self, reason: str) -> None:
        if not self.left_out:
            self.left_out = True
            self.warn(one_line(f"the example database {self.name} is left out: {reason}", 300))


def check_layers(layers: Iterable[str]) -> None:
    """Raise UsageError if a layer is malformed or needs a library that is not installed."""
    for layer in layers:
        _open_layer(layer, print)


def open_database(layers: Iterable[str], warn: Callable[[str], None]) -> ExampleDatabase:
    """Open the local folder and, behind it, the layers that --database names. Raises UsageError."""
    folder = Path(os.environ.get("HYPOTHESIS_STORAGE_DIRECTORY", ".hypothesis")) / "examples"
    # The local folder may fail too: its disk may be full.
    local = FailsafeDatabase(str(folder), lambda: DirectoryBasedExampleDatabase(folder), warn)
    return MultiplexedDatabase(local, *(_open_layer(layer, warn) for layer in layers))


def _open_layer(layer: str, warn: Callable[[str], None]) -> ExampleDatabase:
    if layer.startswith(READ_ONLY):
        return ReadOnlyDatabase(_open_layer(layer.removeprefix(READ_ONLY), warn))
    if layer.startswith(GITHUB):
        owner, _, name = layer.removeprefix(GITHUB).partition("/")
        if not owner or not name or "/" in name:
            raise UsageError(f"database {layer!r} is malformed: write github:OWNER/REPOSITORY")
        return ReadOnlyDatabase(
            FailsafeDatabase(layer, lambda: GitHubArtifactDatabase(owner, name, ARTIFACT), warn)
        )
    scheme, separator, _ = layer.partition("://")
    if not separator:
        if not layer:
            raise UsageError("database is empty: name a folder, or redis://HOST:PORT/0")
        return FailsafeDatabase(layer, lambda: DirectoryBasedExampleDatabase(layer), warn)
    if scheme not in ("redis", "rediss", "unix"):
        raise UsageError(
            f"database {without_password(layer)!r}: {scheme}:// is not known: "
            "name redis://HOST:PORT/0, github:OWNER/REPOSITORY or a folder"
        )
    return FailsafeDatabase(without_password(layer), _redis(layer), warn)


def _redis(url: str) -> Callable[[], ExampleDatabase]:
    """Return what connects to Redis.

    The fragment of the URL keeps projects apart, as in redis://HOST:PORT/0#myproject.
    """
    public = without_password(url)
    try:
        import redis
        from hypothesis.extra.redis import RedisExampleDatabase
    except ImportError:
        raise UsageError(
            f"database {public!r} needs a client: pip install 'frostproof[redis]'"
        ) from None
    address, project = urldefrag(url)
    try:
        client = redis.Redis.from_url(
            address, socket_timeout=ANSWER_TIMEOUT_S, socket_connect_timeout=ANSWER_TIMEOUT_S
        )
    except ValueError as error:
        raise UsageError(
            f"database {public!r} is malformed ({error}): write redis://HOST:PORT/0"
        ) from None
    prefix = f"frostproof:{project or 'frostproof'}:".encode()
    return lambda: RedisExampleDatabase(client, key_prefix=prefix)


def without_password(url: str) -> str:
    """The address of a database, as it may be shown."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
