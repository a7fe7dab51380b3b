"""Workers on other machines: each has its own environment, folder and, if possible, network."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import pytest

from tests.helpers.consumer import PLAIN, Consumer, clean, environment, wheel
from tests.helpers.sockets import free_port, wait_for

OWN = """

class Dies(Plain):
    # The process that runs it is killed once, and then no more.
    steps = 0

    def step(self, closure=None):
        Dies.steps += 1
        if Dies.steps == 100 and not Path(MARK).exists():
            Path(MARK).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().step(closure)
"""
MYLIB = PLAIN + OWN
TARGETS = ("mylib:Plain", "mylib:Deaf")


class Hosts(NamedTuple):
    """A machine that calls pytest, and machines with workers."""

    local: Consumer
    workers: tuple[str, ...]
    """The argument of `--tx` for each of the other machines."""
    servers: tuple[subprocess.Popen[bytes], ...]

    def check(self, *arguments: str, remote: bool = True) -> subprocess.CompletedProcess[str]:
        workers = [word for each in self.workers for word in ("--tx", each)]
        common = ("--device", "cpu", "--max-examples", "12", "--seed", "5", *arguments)
        return self.local.run(
            "frostproof", "check", *common, *(("--", *workers) if remote else ("--jobs", "2"))
        )

    def verdicts(self, name: str) -> dict[str, list[object]]:
        rows = self.local.results(name).values()
        return {
            f"{row['target']} {row['variant']}": [
                row["status"],
                *((each["id"], each["status"]) for each in cast(list[Any], row["invariants"])),
            ]
            for row in rows
        }


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three environments, of which each is the only one to know its project."""
    work = tmp_path_factory.mktemp("hosts")
    built = wheel(work / "dist")
    for name in ("local", "one", "two"):
        environment(work / name / "env", built)
        (work / name / "project").mkdir()
        (work / name / "project" / "mylib.py").write_text(f"MARK = {str(work / 'mark')!r}\n{MYLIB}")
    return work


@pytest.fixture
def hosts(built: Path, request: pytest.FixtureRequest) -> Iterator[Hosts]:
    names = ("one", "two")
    spaces = (
        [f"frostproof-{os.getpid()}-{name}" for name in names]
        if getattr(request, "param", "") == "namespaces"
        else []
    )
    servers = []
    workers = []
    try:
        for number, name in enumerate(names):
            inside, address = (
                (_namespace(spaces[number], number), f"10.213.{number}.2")
                if spaces
                else ([], "127.0.0.1")
            )
            port = free_port() if not spaces else 8888
            python, folder = built / name / "env" / "bin" / "python", built / name / "project"
            once = f"{python} -m execnet.script.socketserver {address}:{port}"
            serve = f"while sleep 0.2; do {once}; done"
            command = [*inside, "bash", "-c", serve]
            quiet = subprocess.DEVNULL
            servers.append(
                subprocess.Popen(
                    command,
                    cwd=folder,
                    env=clean(),
                    start_new_session=True,
                    stdout=quiet,
                    stderr=quiet,
                )
            )
            workers.append(f"socket={address}:{port}//chdir={folder}")
            wait_for(
                address, port
            )  # which xdist's server takes for one that failed, and serves the next
        local = Consumer(built / "local" / "project", built / "local" / "env" / "bin")
        yield Hosts(local, tuple(workers), tuple(servers))
    finally:
        for server in servers:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()
        for number, space in enumerate(spaces):
            subprocess.run(
                ["ip", "link", "del", _cable(number)[0]], check=False, capture_output=True
            )
            subprocess.run(["ip", "netns", "del", space], check=False, capture_output=True)


def _namespace(name: str, number: int) -> list[str]:
    """Make a network, with a cable to this one. Return what starts a command inside it."""
    if shutil.which("ip") is None:
        pytest.skip("no network namespaces here: `ip` is missing")
    (ours, theirs), subnet = _cable(number), f"10.213.{number}"
    inside = ["ip", "netns", "exec", name]
    for command in (
        ["ip", "netns", "add", name],
        ["ip", "link", "add", ours, "type", "veth", "peer", "name", theirs, "netns", name],
        ["ip", "addr", "add", f"{subnet}.1/24", "dev", ours],
        ["ip", "link", "set", ours, "up"],
        [*inside, "ip", "addr", "add", f"{subnet}.2/24", "dev", theirs],
        [*inside, "ip", "link", "set", theirs, "up"],
        [*inside, "ip", "link", "set", "lo", "up"],
    ):
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no network namespaces here: {' '.join(command)}: {done.stderr.strip()}")
    return inside


def _cable(number: int) -> tuple[str, str]:
    """The names of its two ends."""
    return f"fp{os.getpid()}o{number}", f"fp{os.getpid()}t{number}"


@pytest.mark.parametrize("hosts", ["loopback", "namespaces"], indirect=True)
def test_other_machines_come_to_the_same_verdicts(hosts: Hosts) -> None:
    done = hosts.check(*TARGETS, "--json", "remote.json")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "rsync" not in done.stdout
    if not (hosts.local.folder / "local.json").exists():  # of the same targets, with the same seed
        here = hosts.check(*TARGETS, "--json", "local.json", remote=False)
        assert here.returncode == 1, here.stdout + here.stderr
    assert hosts.verdicts("remote.json") == hosts.verdicts("local.json")
    trials = [
        {
            target: row["trials"]
            for target, row in hosts.local.results(f"{name}.json").items()
            if row["status"] == "held"  # others are shrunk, for so many seconds
        }
        for name in ("remote", "local")
    ]
    assert trials[0] == trials[1], "the same seed draws the same examples on every machine"
    assert list((hosts.local.folder / "frostproof-cases").glob("mylib_Deaf*.py")), (
        "cases come back to the machine that asked"
    )
    assert not (hosts.local.folder.parent.parent / "one" / "project" / "frostproof-cases").exists()


def test_a_worker_that_is_killed_costs_its_item_a_second_run(hosts: Hosts, built: Path) -> None:
    (built / "mark").unlink(missing_ok=True)
    done = hosts.check("mylib:Dies", "mylib:Deaf", "mylib:Plain", "--json", "killed.json")
    assert (built / "mark").exists(), done.stdout
    rows = hosts.local.results("killed.json")
    assert {target: row["status"] for target, row in rows.items()} == {
        "mylib:Dies": "held",
        "mylib:Deaf": "violated",
        "mylib:Plain": "held",
    }, done.stdout + done.stderr
    assert done.returncode == 1
    assert rows["mylib:Dies"]["trials"] == 12


def test_a_machine_that_stays_away_is_replaced(hosts: Hosts, built: Path) -> None:
    (built / "mark").unlink(missing_ok=True)
    for server in hosts.servers:
        os.kill(
            server.pid, signal.SIGKILL
        )  # the loops: what they started runs on, and is not started again
    done = hosts.check("mylib:Dies", "mylib:Plain", "--json", "lost.json")
    rows = hosts.local.results("lost.json")
    assert {target: row["status"] for target, row in rows.items()} == {
        "mylib:Dies": "held",
        "mylib:Plain": "held",
    }, done.stdout
    assert done.returncode == 0
    assert done.stdout.count("frostproof: warning: worker") == 1


def test_a_machine_that_was_never_there_is_one_line(built: Path) -> None:
    local = Consumer(built / "local" / "project", built / "local" / "env" / "bin")
    done = local.run(
        "frostproof", "check", "mylib:Deaf", "--", "--tx", f"socket=127.0.0.1:{free_port()}"
    )
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if "127.0.0.1" in line]
    assert line.startswith("ERROR: frostproof: no worker at socket=127.0.0.1:")
    assert "Traceback" not in done.stdout + done.stderr
