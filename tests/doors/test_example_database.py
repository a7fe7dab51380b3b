"""Failures are remembered and shared between machines. A database that fails changes no verdict."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis.database import ExampleDatabase, InMemoryExampleDatabase

from frostproof.doors.pytest_plugin import example_database as database
from frostproof.doors.pytest_plugin.example_database import FailsafeDatabase, KeyedDatabase
from frostproof.errors import UsageError
from tests.helpers.consumer import PLAIN, check
from tests.helpers.sockets import free_port, wait_for

OWN = """

class Rare(Plain):
    # Drops the loss of its closure, with a third group only.
    def step(self, closure=None):
        loss = super().step(closure)
        return loss if len(self.param_groups) < 3 else None


class Killer(Plain):
    steps = 0
    def step(self, closure=None):
        Killer.steps += 1
        if Killer.steps == 200:
            os.kill(int(os.environ["REDIS"]), signal.SIGKILL)
        return super().step(closure)
"""
MYLIB = PLAIN + OWN


class Server(NamedTuple):
    process: subprocess.Popen[bytes]
    url: str


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Server]:
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server here: install Debian's package of that name")
    port = free_port()
    command = [
        program,
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        str(tmp_path),
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    wait_for("127.0.0.1", port)
    yield Server(process, f"redis://127.0.0.1:{port}/0#tests")
    process.kill()
    process.wait()


class Machine(NamedTuple):
    """A folder with nothing but the library in it."""

    folder: Path

    def check(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return check(self.folder, *arguments, **variables)

    def statuses(self) -> dict[str, str]:
        rows = json.loads((self.folder / "out.json").read_text())["subjects"]
        return {f"{row['target']} {row['variant']}": row["status"] for row in rows}


@pytest.fixture
def machines(tmp_path: Path) -> tuple[Machine, Machine]:
    found = Machine(tmp_path / "a"), Machine(tmp_path / "b")
    for machine in found:
        machine.folder.mkdir()
        (machine.folder / "mylib.py").write_text(MYLIB)
    return found


def test_what_one_machine_found_is_what_another_tries_first(
    redis: Server, machines: tuple[Machine, Machine]
) -> None:
    first, second = machines
    done = first.check(
        "mylib:Rare", "--max-examples", "40", "--seed", "3", "--jobs", "2", "--database", redis.url
    )
    assert done.returncode == 1, done.stdout + done.stderr
    broken = first.statuses()
    alone = second.check("mylib:Rare", "--max-examples", "1", "--seed", "4", "--jobs", "2")
    assert alone.returncode == 0, alone.stdout
    together = second.check(
        "mylib:Rare", "--max-examples", "1", "--seed", "4", "--jobs", "2", "--database", redis.url
    )
    assert together.returncode == 1, together.stdout
    assert second.statuses() == broken
    assert "warning" not in together.stdout


@pytest.mark.parametrize("lost", ["before", "during"])
def test_a_lost_memory_is_one_warning_and_the_same_verdicts(
    redis: Server, machines: tuple[Machine, Machine], lost: str
) -> None:
    machine, _ = machines
    if lost == "before":
        redis.process.send_signal(signal.SIGKILL)
        redis.process.wait()
    # While it is lost during the run, a third optimizer is still to begin.
    targets = {"before": ["mylib:Deaf"], "during": ["mylib:Killer", "mylib:Plain", "mylib:Deaf"]}[
        lost
    ]
    arguments = (*targets, "--max-examples", "25", "--seed", "3", "--jobs", "2")
    done = machine.check(*arguments, "--database", redis.url, REDIS=str(redis.process.pid))
    statuses = machine.statuses()
    with subprocess.Popen(["sleep", "300"]) as victim:
        without = machine.check(*arguments, REDIS=str(victim.pid))
        victim.kill()
    assert (done.returncode, statuses) == (without.returncode, machine.statuses()), (
        done.stdout + done.stderr
    )
    assert done.stdout.count("frostproof: warning: the example database redis://127.0.0.1") == 1, (
        done.stdout
    )


def test_a_key_is_the_same_wherever_the_test_is_called_from() -> None:
    layers = InMemoryExampleDatabase()
    one, two = KeyedDatabase(layers, "mylib:Lion"), KeyedDatabase(layers, "mylib:Lion")
    one.save(b"a" * 48, b"value")
    one.save(b"a" * 48 + b".secondary", b"another")
    assert list(two.fetch(b"b" * 48)) == [b"value"]
    one.move(b"a" * 48, b"a" * 48 + b".secondary", b"value")
    assert set(two.fetch(b"b" * 48 + b".secondary")) == {b"value", b"another"}
    two.delete(b"b" * 48 + b".secondary", b"value")
    assert list(one.fetch(b"a" * 48 + b".secondary")) == [b"another"]
    assert list(KeyedDatabase(layers, "mylib:Other").fetch(b"a" * 48)) == []


class Fails(InMemoryExampleDatabase):
    def fetch(self, key: bytes) -> Any:
        raise ConnectionError("refused")


class Slow(InMemoryExampleDatabase):
    def fetch(self, key: bytes) -> Any:
        time.sleep(0.02)
        return super().fetch(key)


@pytest.mark.parametrize(
    ("layer", "says"), [(Fails, "ConnectionError: refused"), (Slow, "it took")]
)
def test_a_layer_that_fails_or_is_slow_is_left_out(
    layer: type[ExampleDatabase], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "TOTAL_TIMEOUT_S", 0.01)
    warnings: list[str] = []
    shared = FailsafeDatabase("the layer", layer, warnings.append)
    for _ in range(3):
        assert list(shared.fetch(b"key")) == []
        shared.save(b"key", b"value")
        shared.move(b"key", b"other", b"value")
        shared.delete(b"key", b"value")
    assert len(warnings) == 1
    assert f"the example database the layer is left out: {says}" in warnings[0]


@pytest.mark.parametrize(
    ("layer", "says"),
    [
        ("", "name a folder"),
        ("ftp://host", "ftp:// is not known"),
        ("github:owner", "write github:OWNER/REPOSITORY"),
        ("readonly:github:a/b/c", "write github:OWNER/REPOSITORY"),
        ("redis://:secret@host:port/0", "is malformed"),
    ],
)
def test_a_layer_that_cannot_be_is_one_line(layer: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as error:
        database.check_layers([layer])
    assert "secret" not in str(error.value)


def test_layers_lie_behind_the_local_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HYPOTHESIS_STORAGE_DIRECTORY", str(tmp_path / "local"))
    warnings: list[str] = []
    shared = database.open_database([str(tmp_path / "shared")], warnings.append)
    shared.save(b"key", b"value")
    monkeypatch.setenv("HYPOTHESIS_STORAGE_DIRECTORY", str(tmp_path / "another"))
    reader = database.open_database([f"readonly:{tmp_path / 'shared'}"], warnings.append)
    assert list(reader.fetch(b"key")) == [b"value"]
    reader.save(b"key", b"mine")
    assert list(
        database.open_database([str(tmp_path / "shared")], warnings.append).fetch(b"key")
    ) != [b"mine"]
    assert warnings == []
