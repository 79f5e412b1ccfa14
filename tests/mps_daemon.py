"""A stand-in for NVIDIA's ``nvidia-cuda-mps-control``: it plays the daemon and what talks to it.

Called with ``-f`` it listens at the socket that CUDA_MPS_PIPE_DIRECTORY names and starts a server
in a session of its own; without, it sends what it reads to the daemon and prints the answer.
What it was started with goes to the folder of MADE_MPS; MADE_MPS_MODE makes it misbehave.
"""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

NAME = "nvidia-cuda-mps-control"
SERVER = "import time; time.sleep(600)"


def install(folder: Path) -> dict[str, str]:
    """Put the stand-in into ``folder``; return the variables of a process that finds it."""
    notes = folder / "notes"
    notes.mkdir()
    path = folder / NAME
    path.write_text(f"#!{sys.executable} -IS\n" + Path(__file__).read_text(encoding="utf-8"))
    path.chmod(0o755)
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CUDA_")}
    return {**kept, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "MADE_MPS": str(notes)}


def daemon(pipes: Path, notes: Path, mode: str) -> None:
    """Answer until told to quit."""
    (notes / "started.json").write_text(json.dumps([os.getpid(), dict(os.environ)]))
    if mode == "dies":
        sys.exit("no card here takes a daemon")
    server = None
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(pipes / "control"))
        listening.listen()
        while True:
            talk, _ = listening.accept()
            with talk:
                command = talk.recv(1000).decode().strip()
                if server is None and mode != "serves nobody":
                    words = [sys.executable, "-ISc", SERVER]
                    server = subprocess.Popen(words, start_new_session=True)
                    (notes / "server").write_text(str(server.pid))
                if command == "quit" and mode != "stays":
                    (notes / "quit").touch()
                    if server:
                        server.kill()
                    return
                pid = f"{server.pid}\n" if server else ""
                talk.sendall((pid if command == "get_server_list" else "17\n").encode())


def talk(pipes: Path) -> None:
    """Send a command and print the answer; exit with 1 where no daemon is."""
    with socket.socket(socket.AF_UNIX) as out:
        try:
            out.connect(str(pipes / "control"))
        except OSError:
            sys.exit(1)
        out.sendall(sys.stdin.read().encode())
        while part := out.recv(1000):
            sys.stdout.write(part.decode())


if __name__ == "__main__":
    place = Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps"))
    if sys.argv[1:] == ["-f"]:
        daemon(place, Path(os.environ["MADE_MPS"]), os.environ.get("MADE_MPS_MODE", ""))
    else:
        talk(place)
