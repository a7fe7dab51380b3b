"""A fork of the server behaves as any Python process does, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux forks once torch is imported"
)

START = """
import shlex, subprocess, sys, time
from frostproof.process.fork_server import ForkServer
server = ForkServer()
python = shlex.split(server.python)
"""
SLEEPS = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"


def run(
    program: str, folder: Path, *, start_new_session: bool = False
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", START + program],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        start_new_session=start_new_session,
    )


def alive(process: int) -> bool:
    """Whether a process still runs, given a moment to end."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
        if Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return False
        time.sleep(0.05)
    return True


def test_a_fork_has_streams_folder_environment_and_exit_code_of_its_client(tmp_path: Path) -> None:
    code = (
        "import os, sys; print(sys.stdin.readline(), os.getcwd(), os.environ['WHO'], __name__); "
        "sys.exit(3)"
    )
    (tmp_path / "there").mkdir()
    program = f"""
done = subprocess.run([*python, "-u", "-c", {code!r}], input="a line", cwd="there",
                      env={{"WHO": "me"}}, text=True, capture_output=True)
print(done.returncode, done.stdout, done.stderr)
server.close()
"""
    done = run(program, tmp_path)
    assert done.stdout.split() == ["3", "a", "line", str(tmp_path / "there"), "me", "__main__"]
    assert done.stderr == ""


def test_what_a_fork_raises_is_told_and_exits_1(tmp_path: Path) -> None:
    program = """
done = subprocess.run([*python, "-c", "1 / 0"], text=True, capture_output=True)
print(done.returncode, done.stderr.splitlines()[-1])
server.close()
"""
    assert run(program, tmp_path).stdout == "1 ZeroDivisionError: division by zero\n"


@pytest.mark.parametrize(
    "end", ["client.kill()", "server.close()", "import os; os.kill(os.getpid(), 9)"]
)
def test_no_fork_outlives_its_client_its_server_or_the_first_process(
    end: str, tmp_path: Path
) -> None:
    program = f"""
client = subprocess.Popen([*python, "-c", {SLEEPS!r}], text=True, stdout=subprocess.PIPE)
print(client.stdout.readline().strip(), server.process, flush=True)
{end}
if "client" in {end!r}:
    time.sleep(1)
    server.close()
"""
    fork, server = map(int, run(program, tmp_path).stdout.split())
    assert not alive(fork)
    assert not alive(server)


def test_a_fork_that_dies_closes_its_streams(tmp_path: Path) -> None:
    program = f"""
import os
client = subprocess.Popen([*python, "-c", {SLEEPS!r}], text=True, stdout=subprocess.PIPE)
os.kill(int(client.stdout.readline()), {int(signal.SIGKILL)})
print(repr(client.stdout.read()), client.wait(10) != 0)
server.close()
"""
    assert run(program, tmp_path).stdout == "'' True\n"


def test_what_is_not_a_client_is_not_served(tmp_path: Path) -> None:
    program = """
import socket
with socket.socket(socket.AF_UNIX) as stranger:
    stranger.connect(python[-1])
    stranger.sendall(b"hello\\n")
done = subprocess.run([*python, "-c", "print('served')"], text=True, capture_output=True)
print(done.stdout.strip())
server.close()
"""
    assert run(program, tmp_path).stdout == "served\n"


def test_an_interrupt_from_the_terminal_is_for_the_fork_to_answer(tmp_path: Path) -> None:
    """Ctrl-C reaches the whole process group. The fork must be able to end in its own time."""
    code = """import signal, time
signal.signal(signal.SIGINT, lambda *_: print("interrupted", flush=True))
print("ready", flush=True)
time.sleep(60)"""
    program = f"""
import signal
client = subprocess.Popen([*python, "-c", {code!r}], text=True, stdout=subprocess.PIPE)
client.stdout.readline()
signal.signal(signal.SIGINT, signal.SIG_IGN)
import os; os.killpg(0, signal.SIGINT)
print(client.stdout.readline().strip())
time.sleep(1)
print(client.poll())
server.close()
"""
    done = run(program, tmp_path, start_new_session=True)
    assert (done.stdout, done.stderr) == ("interrupted\nNone\n", "")


def test_a_client_and_its_fork_that_end_at_once_do_not_end_the_server(tmp_path: Path) -> None:
    program = f"""
import os, signal
for _ in range(20):
    client = subprocess.Popen([*python, "-c", {SLEEPS!r}], text=True, stdout=subprocess.PIPE)
    fork = int(client.stdout.readline())
    os.kill(server.process, signal.SIGSTOP)
    os.kill(fork, signal.SIGKILL)
    client.kill()
    client.wait()
    time.sleep(0.05)
    os.kill(server.process, signal.SIGCONT)
done = subprocess.run([*python, "-c", "print('served')"], text=True, capture_output=True)
print(done.stdout.strip())
server.close()
"""
    assert run(program, tmp_path).stdout == "served\n"


def test_the_socket_is_removed_even_if_the_first_process_is_killed(tmp_path: Path) -> None:
    program = """
import os
print(server.folder, server.process, flush=True)
os.kill(os.getpid(), 9)
"""
    folder, server = run(program, tmp_path).stdout.split()
    assert not alive(int(server))
    assert not Path(folder).exists()


def test_a_folder_whose_name_is_too_long_for_a_socket_costs_only_the_forks(tmp_path: Path) -> None:
    temporary = tmp_path / ("long" * 30)
    temporary.mkdir()
    program = f"""
import os, tempfile
tempfile.tempdir = {str(temporary)!r}
from frostproof.process.fork_server import forking
with forking(["torch"]) as none:
    print(none, [each for each in os.listdir({str(temporary)!r}) if "frostproof" in each])
server.close()
"""
    assert run(program, tmp_path).stdout == "None []\n"


def test_numpy_does_not_keep_a_process_from_forking(tmp_path: Path) -> None:
    """The OpenBLAS of NumPy starts threads when it is loaded, and torch imports NumPy."""
    pytest.importorskip("numpy")
    program = """
import gc, os
from frostproof.process.fork_server import forking
with forking(["torch"]) as server:
    print(server is not None, "numpy" in sys.modules, os.environ.get("OPENBLAS_NUM_THREADS"))
print(gc.get_freeze_count())  # the bindings of triton take what is left for leaked
server.close()
"""
    assert run(program, tmp_path).stdout == "True True None\n0\n"


def test_scripts_run_in_forks_that_have_nothing_of_the_harness(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(
        "import sys\n"
        "left = {each.partition('.')[0] for each in sys.modules} & {'frostproof', 'pytest'}\n"
        "sys.exit(f'thaw-resumes: {sorted(left)} {\"torch\" in sys.modules}')\n"
    )
    program = """
from pathlib import Path
import frostproof.errors, torch
from frostproof.counterexamples import execution
from frostproof.counterexamples.execution import reproduces
print(execution.interpreter() == python)
print(reproduces(Path("script.py").absolute(), "thaw-resumes", Path.cwd()).said)
execution._end_all()
server.close()
print(execution.interpreter() == [sys.executable])
"""
    said = ["True", "thaw-resumes: [] True", "True"]
    assert run(program, tmp_path).stdout.splitlines() == said
