"""A port that is not Ray, other versions and code too large: each its own line and remedy."""

import socket
import threading
import time

import pytest

from benchmark.engines import ray_address
from benchmark.engines.ray_address import knock, refusal

SETTINGS = bytes((0, 0, 6, 4, 0, 0, 0, 0, 0))


@pytest.fixture
def server():
    """Return what listens and answers each caller with given bytes; None: with silence."""
    opened = []

    def serve(answer):
        listener = socket.create_server(("127.0.0.1", 0))
        opened.append(listener)

        def answer_one():
            caller, _ = listener.accept()
            opened.append(caller)
            if answer is not None:
                caller.recv(100)
                caller.sendall(answer)

        threading.Thread(target=answer_one, daemon=True).start()
        return f"127.0.0.1:{listener.getsockname()[1]}"

    yield serve
    for each in opened:
        each.close()


@pytest.mark.parametrize("answer", [None, b"HTTP/1.1 400 Bad Request\r\n", b"SSH-2.0-x\r\n", b"x"])
def test_what_is_not_ray_is_said_soon(server, monkeypatch, answer):
    monkeypatch.setattr(ray_address, "_KNOCK_S", 0.2)
    started = time.monotonic()
    with pytest.raises(ValueError, match="what listens there is not Ray"):
        knock(server(answer))
    assert time.monotonic() - started < 2


def test_what_speaks_as_ray_does_is_let_in(server):
    knock(server(SETTINGS))


@pytest.mark.parametrize("address", ["here", ":6379", "host:port"])
def test_an_address_has_a_host_and_a_port(address):
    with pytest.raises(ValueError, match="expected HOST:PORT"):
        knock(address)


def test_each_refusal_has_its_remedy():
    other = RuntimeError("Version mismatch: The cluster was started with:\n    Ray: 2.9.0\n")
    large = ValueError("Package size (900 MiB) exceeds the maximum size of 500 MiB. To exclude")
    assert "Install the cluster's versions" in refusal("a:1", other)
    assert "Ray: 2.9.0" in refusal("a:1", other)
    assert "Move data" in refusal("a:1", large)
    assert "ray start" not in refusal("a:1", other) + refusal("a:1", large)
    assert "ray start --head" in refusal("a:1", OSError("refused\nmore"))
    assert not any("\n" in refusal("a:1", error) for error in (other, large))
