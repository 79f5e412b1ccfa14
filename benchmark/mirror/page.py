"""MLflow's page of a study: served by a process that ends with this one."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from benchmark.mirror import keeper
from benchmark.mirror.client import SETTINGS
from protocols.errors import InvalidInputError, StoreError

PORTS = range(1, 1 << 16)
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def check_port(host: str, port: int) -> None:
    """Raise InvalidInputError unless a server can listen on ``port`` of ``host``."""
    if port not in PORTS:
        raise InvalidInputError(f"--port {port}: expected {PORTS[0]} to {PORTS[-1]}")
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise _wrong_host(host, error) from None
    try:
        with socket.socket(family, kind) as probe:
            # As servers do: a port whose last connections are not forgotten yet is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen()
    except OSError as error:
        if error.errno == errno.EADDRNOTAVAIL:
            raise _wrong_host(host, error) from None
        raise InvalidInputError(
            f"port {port} of {host} cannot be listened on: {error.strerror}. "
            "Choose another --port, or end what is there"
        ) from None


def _wrong_host(host: str, error: OSError) -> InvalidInputError:
    return InvalidInputError(
        f"--host {host}: {error.strerror}. Name an address of this machine, like 127.0.0.1, or "
        "0.0.0.0 for all"
    )


def command(uri: str, host: str, port: int, allowed: Sequence[str] = ()) -> list[str]:
    """Return the command that serves the store at ``uri``.

    Args:
        uri: of a database or folder.
        host: the address to listen on.
        port: the port to listen on.
        allowed: names by which the page may be asked for; none for MLflow's own choice, which is
            this machine and private networks.
    """
    words = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", uri]
    # It is for one person, and each further process takes 200 MB.
    words += ["--host", host, "--port", str(port), "--workers", "1"]
    if allowed:
        hosts, origins = _admitted(allowed, port)
        words += ["--allowed-hosts", hosts, "--cors-allowed-origins", origins]
    return words


def serve(words: Sequence[str]) -> NoReturn:
    """Run the command that serves a store until this process is interrupted.

    Raises:
        StoreError: the server ended by itself.
    """
    # MLflow's jobs concern other things, and are seven processes.
    hold(words, {**SETTINGS, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **os.environ})
    raise StoreError("MLflow's server ended by itself; what it said stands above")


def _admitted(allowed: Sequence[str], port: int) -> tuple[str, str]:
    """Return MLflow's lists of hosts and origins for the names that a person would give.

    MLflow compares a name with all that a browser asks for, the port included, and takes changes
    and searches only from origins it knows. This machine itself is always admitted.
    """
    hosts: dict[str, None] = {}
    for name in (*_LOOPBACK, *allowed):
        with_port = name == "*" or name.rpartition(":")[2].isdecimal()
        hosts |= dict.fromkeys([name] if with_port else [name, f"{name}:{port}"])
    origins = [f"{scheme}://{host}" for host in hosts for scheme in ("http", "https")]
    return ",".join(hosts), ",".join(origins)


def hold(words: Sequence[str], environment: Mapping[str, str]) -> None:
    """Run the command ``words`` until it ends; it and all that it starts end with this process.

    However this process ends: the pipe to :mod:`benchmark.mirror.keeper` ends with it.
    """
    # Isolated (-I), because only what comes with Python is needed to watch over the command.
    watched = [sys.executable, "-I", str(Path(keeper.__file__)), *words]
    with subprocess.Popen(
        watched, stdin=subprocess.PIPE, env=environment, start_new_session=True
    ) as process:
        try:
            process.wait()
        finally:
            with contextlib.suppress(ProcessLookupError):  # nothing is left, as it should be
                os.killpg(process.pid, signal.SIGKILL)
