"""Takes the place of a Python interpreter, and asks the fork server for a fork; see `fork_server`.

Usage: fork_client.py SOCKET -u -c CODE. It imports very little, so that it starts in milliseconds.
"""

import json
import os
import signal
import socket
import sys

signal.signal(signal.SIGINT, signal.SIG_IGN)  # The fork receives it too, and ends in its own time.
with socket.socket(socket.AF_UNIX) as server:
    server.connect(sys.argv[1])
    request = {"code": sys.argv[-1], "folder": os.getcwd(), "environment": dict(os.environ)}  # noqa: PTH109
    socket.send_fds(server, [b"3"], [0, 1, 2])
    server.sendall(json.dumps(request).encode() + b"\n")
    for stream in (0, 1, 2):
        os.close(stream)  # Now only the fork has them, so that its end is seen.
    code = server.recv(16)
os._exit(int(code) % 256 if code else 1)
