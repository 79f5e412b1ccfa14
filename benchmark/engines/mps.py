"""NVIDIA's Multi-Process Service (MPS): processes that share a GPU use it at the same time.

Without it a card serves one process after the other, so jobs side by side gain little. Under it
a daemon takes their work to the card together. The price: an error that breaks one process on a
card (a device-side assert) breaks all that use the card through the daemon.

A study that asks for it uses the daemon that runs here already, or starts one of its own, which
ends with the study. No setting of a card is read or changed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmark.engines import mps_watch
from benchmark.engines.machine import pick_device
from protocols.errors import InvalidInputError, MachineError

PIPES = "CUDA_MPS_PIPE_DIRECTORY"  # of the folder by which CUDA finds a daemon
LOGS = "CUDA_MPS_LOG_DIRECTORY"
USUAL = "/tmp/nvidia-mps"  # where CUDA looks without that variable
PROGRAM = "nvidia-cuda-mps-control"
ELSEWHERE = "/usr/local/nvidia/bin"  # where containers have NVIDIA's programs, on PATH or not
PLACE = "/tmp"  # not TMPDIR: a socket's path has at most 107 characters
START_S = 20.0
ASK_S = 10.0
_POLL_S = 0.1


@dataclass(frozen=True)
class Service:
    """A daemon that answers.

    Attributes:
        pipes: the folder by which processes reach it.
        control: the program that talks to a daemon of this study's own, "" for one that ran here
            before, which is left alone.
        environment: the daemon's variables.
    """

    pipes: Path
    control: str = ""
    environment: Mapping[str, str] = field(default_factory=dict)

    def answers(self) -> bool:
        """Return whether the study's own daemon is there."""
        return _ask(self.control, self.environment, "get_server_list") is not None

    def clients(self) -> list[int]:
        """Return the processes that the study's own daemon serves."""
        servers = self._numbers("get_server_list")
        return [number for pid in servers for number in self._numbers(f"get_client_list {pid}")]

    def check_used(self) -> None:
        """Raise InvalidInputError unless a worker that has used its card did so by the daemon.

        CUDA goes its ordinary way without a word where it does not reach one.
        """
        if self.control and not self._numbers("get_server_list"):
            raise InvalidInputError(
                f"--mps: the daemon runs, but a worker used its card without it "
                f"({_last_line(self.pipes.parent)}). Leave out --mps"
            )

    def _numbers(self, command: str) -> list[int]:
        answer = _ask(self.control, self.environment, command) or ""
        return [int(word) for word in answer.split() if word.isdecimal()]


def program(environment: Mapping[str, str]) -> str | None:
    """Return the path of NVIDIA's program, None where it is not here."""
    return shutil.which(PROGRAM, path=_path(environment))


def running(environment: Mapping[str, str]) -> Path | None:
    """Return the folder of a daemon that a process with these variables would use, None without.

    The socket in it stays when a daemon has ended, so the daemon is asked. Where the program for
    that is missing, as in a container with a daemon outside, a folder counts that they name.
    """
    named = environment.get(PIPES)
    pipes = named or USUAL
    if not os.path.exists(f"{pipes}/control"):
        return None
    if (control := program(environment)) is None:
        return Path(named) if named else None
    there = _ask(control, {**environment, PIPES: pipes}, "get_server_list")
    return None if there is None else Path(pipes)


def check(engine: str, device: str, environment: Mapping[str, str]) -> None:
    """Raise InvalidInputError where jobs cannot share a GPU in this way."""
    if engine != "local":
        raise InvalidInputError(
            f"--mps is for the workers of this machine, not for those of --engine {engine}: leave "
            "it out"
        )
    if pick_device(device) == "cpu":
        raise InvalidInputError(
            "--mps is for jobs that share a GPU, and these would run on the CPU: leave it out"
        )
    if program(environment) is None and running(environment) is None:
        raise InvalidInputError(
            f"--mps: {PROGRAM} is not on PATH. It comes with NVIDIA's driver: install it, or "
            "leave out --mps"
        )


def check_there(pipes: Path) -> None:
    """Raise MachineError where the study's own daemon, reached by ``pipes``, has ended by itself.

    A worker that starts then would find no card, or use it without the daemon.
    """
    if (pipes.parent / mps_watch.ENDED).exists():
        raise MachineError(
            f"--mps: NVIDIA's daemon has ended ({_last_line(pipes.parent)}). What is recorded is "
            "safe: run the same command again, or without --mps"
        )


@contextmanager
def serving(environment: Mapping[str, str]) -> Iterator[Service]:
    """Yield the daemon that runs here, or start one that is gone afterwards, however this ends.

    Args:
        environment: the variables of the processes that are to use it.

    Raises:
        InvalidInputError: it does not start.
    """
    if pipes := running(environment):
        yield Service(pipes)
        return
    control = program(environment)
    if control is None:
        raise InvalidInputError(f"--mps: {PROGRAM} is not here any more. Leave out --mps")
    folder = _make_folder()
    service = Service(folder / "pipes", control, _of_daemon(environment, folder))
    watch = _start(service, folder)
    try:
        _wait_for(service, watch, folder)
        yield service
    finally:
        _stop(watch, folder)


def _make_folder() -> Path:
    try:
        folder = Path(tempfile.mkdtemp(prefix="dml-mps-", dir=PLACE))
        for name in ("pipes", "logs"):
            (folder / name).mkdir()
    except OSError as error:
        raise InvalidInputError(
            f"--mps: no folder for its daemon in {PLACE}: {error.strerror}. Make it writable, or "
            "leave out --mps"
        ) from error
    return folder


def _of_daemon(environment: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return the daemon's variables: it has all cards, which keep their numbers for workers."""
    kept = {name: value for name, value in environment.items() if name != "CUDA_VISIBLE_DEVICES"}
    places = {PIPES: str(folder / "pipes"), LOGS: str(folder / "logs")}
    return {**kept, **places, "PATH": _path(environment)}


def _path(environment: Mapping[str, str]) -> str:
    return os.pathsep.join([environment.get("PATH", os.defpath), ELSEWHERE])


def _start(service: Service, folder: Path) -> subprocess.Popen[bytes]:
    """Start what runs the daemon and ends it once this process lets go of the pipe, or is gone.

    In a session of its own: Ctrl-C at a terminal is for the coordinator to answer.
    """
    words = [sys.executable, "-I", "-S", mps_watch.__file__, service.control, str(folder)]
    with (folder / "said.txt").open("wb") as said:
        return subprocess.Popen(
            words,
            env=service.environment,
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )


def _wait_for(service: Service, watch: subprocess.Popen[bytes], folder: Path) -> None:
    """Wait until the daemon answers; raise InvalidInputError where it does not."""
    deadline = time.monotonic() + START_S
    ended = folder / mps_watch.ENDED
    while time.monotonic() < deadline and not ended.exists() and watch.poll() is None:
        if (service.pipes / "control").exists() and service.answers():
            return
        time.sleep(_POLL_S)
    raise InvalidInputError(
        f"--mps: NVIDIA's daemon did not start ({_last_line(folder)}). Leave out --mps, or start "
        f"{PROGRAM} -d yourself to see why"
    )


def _stop(watch: subprocess.Popen[bytes], folder: Path) -> None:
    """Let the daemon end and wait until it is gone."""
    assert watch.stdin is not None
    watch.stdin.close()
    try:
        watch.wait(3 * mps_watch.GRACE_S)
    except subprocess.TimeoutExpired:
        os.killpg(watch.pid, signal.SIGKILL)
        watch.wait()
    shutil.rmtree(folder, ignore_errors=True)


def _ask(control: str, environment: Mapping[str, str], command: str) -> str | None:
    """Return what a daemon answers to a command, None where none answers."""
    with suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(
            [control],
            input=f"{command}\n",
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=ASK_S,
            encoding="utf-8",
            errors="replace",
            check=True,
        )
        return done.stdout
    return None


def _last_line(folder: Path) -> str:
    """Return the last thing that a daemon said, for an error message of one line."""
    for name in ("logs/control.log", "said.txt"):
        with suppress(OSError):
            lines = (folder / name).read_text(encoding="utf-8", errors="replace").split("\n")
            if said := [line.strip() for line in lines if line.strip()]:
                return said[-1]
    return "it said nothing"
