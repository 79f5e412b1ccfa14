"""The page of a study: where it cannot be served it says so first, and nothing outlives it."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest

from benchmark import cli
from benchmark.mirror import page
from protocols.errors import InvalidInputError
from tests.benchmark.mirror.test_tracking import port_of
from tests.running import ROOT, workers_of

# A server that starts a process of its own and says so; both would stay for a minute.
SERVER = (
    "import subprocess, sys, time\n"
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
    "print('up', flush=True); time.sleep(60)"
)
HOLD = "import os, sys; from benchmark.mirror.page import hold; hold(sys.argv[1:], os.environ)"


def held(*command):
    """Start a process that holds ``command``; return it when that one has said a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, *command],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline() == "up\n"
    return process


def below(pid):
    """Return the keeper's session below ``pid``, whose processes must all end."""
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True
    )
    (keeper,) = map(int, listed.stdout.split())
    return keeper


def ended_within(session, seconds):
    deadline = time.monotonic() + seconds
    while workers_of(session) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not workers_of(session)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_what_is_held_ends_with_its_holder_however_that_ends(number):
    process = held(sys.executable, "-c", SERVER)
    session = below(process.pid)
    assert len(workers_of(session)) == 3  # the keeper, the server and its own process
    process.send_signal(number)
    assert ended_within(session, 0.5)
    process.communicate()


def test_a_server_that_ends_takes_what_it_started_with_it():
    ends = SERVER.rpartition("; time.sleep")[0]
    process = held(sys.executable, "-c", ends)
    process.communicate(timeout=5)
    assert process.returncode == 0  # hold returned


def test_a_port_that_is_taken_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = port_of(taken)
        with pytest.raises(InvalidInputError, match=f"port {port} of 127.0.0.1.*--port"):
            page.check_port("127.0.0.1", port)
    page.check_port("127.0.0.1", port)


@pytest.mark.parametrize(
    ("host", "port", "says"),
    [
        ("127.0.0.1", 0, "expected 1 to 65535"),
        ("127.0.0.1", 65536, "expected 1 to 65535"),
        ("203.0.113.7", 5000, "--host 203.0.113.7"),
        ("no such host", 5000, "--host no such host"),
    ],
)
def test_what_cannot_be_listened_on_is_refused(host, port, says):
    with pytest.raises(InvalidInputError, match=says):
        page.check_port(host, port)


def test_a_port_whose_last_connection_is_not_forgotten_is_free():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = port_of(server)
        with socket.create_connection(("127.0.0.1", port)):
            server.accept()[0].close()  # the server closes first, and its port waits
    page.check_port("127.0.0.1", port)


def test_hosts_are_admitted_with_the_port_and_as_origins():
    args = cli.make_parser().parse_args(["ui", "--allowed-hosts", "gpu-box,10.0.0.9:80"])
    words = page.command("sqlite:///a.db", "0.0.0.0", 5001, args.allowed_hosts)
    hosts = words[words.index("--allowed-hosts") + 1].split(",")
    assert {"gpu-box", "gpu-box:5001", "10.0.0.9:80", "127.0.0.1:5001"} <= set(hosts)
    assert "10.0.0.9:80:5001" not in hosts
    assert "http://gpu-box:5001" in words[words.index("--cors-allowed-origins") + 1].split(",")


def test_without_names_the_choice_is_mlflows():
    args = cli.make_parser().parse_args(["ui"])
    words = page.command("sqlite:///a.db", args.host, args.port, args.allowed_hosts or ())
    assert not {"--allowed-hosts", "--cors-allowed-origins"} & set(words)
