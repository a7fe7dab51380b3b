"""Ports of this machine, and of machines that stand for others."""

from __future__ import annotations

import socket
import time


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_for(address: str, port: int) -> None:
    """Until something listens there. Raises TimeoutError."""
    for _ in range(100):
        with socket.socket() as client:
            if client.connect_ex((address, port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(f"{address}:{port}")
