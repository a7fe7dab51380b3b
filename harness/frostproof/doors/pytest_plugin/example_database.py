"""Where failures are remembered and tried first: the local folder, and layers that machines share.

A shared layer that is down, slow, or lost on the way is left out from then on, with one warning: it decides about no verdict.
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

ANSWER = 2.0
"""Seconds within which a shared layer must answer."""

PATIENCE = 10.0
"""Seconds that a process waits for a shared layer, all together."""

READ_ONLY, GITHUB = "readonly:", "github:"
ARTIFACT = "frostproof-examples"
Answer = TypeVar("Answer")
_DIGEST = hashlib.sha384().digest_size


class Keyed(ExampleDatabase):
    """`layers` under a key of our own: that of Hypothesis depends on the folder of the test and on how its item is called."""

    def __init__(self, layers: ExampleDatabase, key: str) -> None:
        super().__init__()
        self.layers, self.key = layers, key.encode()

    def _own(self, key: bytes) -> bytes:
        return (
            self.key + key[_DIGEST:]
        )  # behind the digest Hypothesis names a part of its own, as `.secondary`

    def fetch(self, key: bytes) -> Iterable[bytes]:
        return self.layers.fetch(self._own(key))

    def save(self, key: bytes, value: bytes) -> None:
        self.layers.save(self._own(key), value)

    def delete(self, key: bytes, value: bytes) -> None:
        self.layers.delete(self._own(key), value)

    def move(self, src: bytes, dest: bytes, value: bytes) -> None:
        self.layers.move(self._own(src), self._own(dest), value)


class Shared(ExampleDatabase):
    """A layer that may fail. `build` connects to it when it is first needed; `warn` hears, once, why it is left out."""

    def __init__(
        self, name: str, build: Callable[[], ExampleDatabase], warn: Callable[[str], None]
    ) -> None:
        super().__init__()
        self.name, self.build, self.warn = name, build, warn
        self.layer: ExampleDatabase | None = None
        self.lost = False
        self.waited = 0.0

    def fetch(self, key: bytes) -> Iterable[bytes]:
        return self._asked(lambda layer: list(layer.fetch(key))) or []

    def save(self, key: bytes, value: bytes) -> None:
        self._asked(lambda layer: layer.save(key, value))

    def delete(self, key: bytes, value: bytes) -> None:
        self._asked(lambda layer: layer.delete(key, value))

    def move(self, src: bytes, dest: bytes, value: bytes) -> None:
        self._asked(lambda layer: layer.move(src, dest, value))

    def _asked(self, what: Callable[[ExampleDatabase], Answer]) -> Answer | None:
        """What the layer answers; None where it fails, or has been left out."""
        if self.lost:
            return None
        started, answer = time.monotonic(), None
        try:
            if self.layer is None:
                self.layer = self.build()
            answer = what(self.layer)
        except Exception as error:  # whatever a client library raises: nothing that a memory does may decide about a verdict
            self._lose(f"{type(error).__name__}: {error}")
        self.waited += time.monotonic() - started
        if self.waited > PATIENCE:
            self._lose(f"it took {self.waited:.0f} s to answer")
        return answer

    def _lose(self, reason: str) -> None:
        if not self.lost:
            self.lost = True
            self.warn(one_line(f"the example database {self.name} is left out: {reason}", 300))


def check(layers: Iterable[str]) -> None:
    """Raise UsageError, one line, for a layer that is malformed or whose library is not installed."""
    for layer in layers:
        _shared(layer, print)


def database(layers: Iterable[str], warn: Callable[[str], None]) -> ExampleDatabase:
    """The local folder and the shared `layers` behind it, as --database names them. Raises UsageError."""
    folder = Path(os.environ.get("HYPOTHESIS_STORAGE_DIRECTORY", ".hypothesis")) / "examples"
    local = Shared(
        str(folder), lambda: DirectoryBasedExampleDatabase(folder), warn
    )  # a disk may be full
    return MultiplexedDatabase(local, *(_shared(layer, warn) for layer in layers))


def _shared(layer: str, warn: Callable[[str], None]) -> ExampleDatabase:
    if layer.startswith(READ_ONLY):
        return ReadOnlyDatabase(_shared(layer.removeprefix(READ_ONLY), warn))
    if layer.startswith(GITHUB):
        owner, _, name = layer.removeprefix(GITHUB).partition("/")
        if not owner or not name or "/" in name:
            raise UsageError(f"database {layer!r} is malformed: write github:OWNER/REPOSITORY")
        return ReadOnlyDatabase(
            Shared(layer, lambda: GitHubArtifactDatabase(owner, name, ARTIFACT), warn)
        )
    scheme, separator, _ = layer.partition("://")
    if not separator:
        if not layer:
            raise UsageError("database is empty: name a folder, or redis://HOST:PORT/0")
        return Shared(layer, lambda: DirectoryBasedExampleDatabase(layer), warn)
    if scheme not in ("redis", "rediss", "unix"):
        raise UsageError(
            f"database {_public(layer)!r}: {scheme}:// is not known: name redis://HOST:PORT/0, github:OWNER/REPOSITORY or a folder"
        )
    return Shared(_public(layer), _redis(layer), warn)


def _redis(url: str) -> Callable[[], ExampleDatabase]:
    """What connects to Redis. The URL's fragment, as in redis://HOST:PORT/0#myproject, keeps projects apart."""
    try:
        import redis
        from hypothesis.extra.redis import RedisExampleDatabase
    except ImportError:
        raise UsageError(
            f"database {_public(url)!r} needs a client: pip install 'frostproof[redis]'"
        ) from None
    address, project = urldefrag(url)
    try:
        client = redis.Redis.from_url(address, socket_timeout=ANSWER, socket_connect_timeout=ANSWER)
    except ValueError as error:
        raise UsageError(
            f"database {_public(url)!r} is malformed ({error}): write redis://HOST:PORT/0"
        ) from None
    prefix = f"frostproof:{project or 'frostproof'}:".encode()
    return lambda: RedisExampleDatabase(client, key_prefix=prefix)


def _public(url: str) -> str:
    """The URL without what nobody else is to read."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
