"""Whether a Ray cluster is where one is said to be, and what to do if not; imports no ray."""

from __future__ import annotations

import socket

_KNOCK_S = 10.0
# How a client of HTTP/2, and so of gRPC, begins (RFC 9113, section 3.4): preface and settings.
_HTTP2, _SETTINGS = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))


def knock(address: str) -> None:
    """Raise OSError or ValueError unless a server of Ray's kind is at an address.

    Ray itself would try for minutes.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(f"met {address!r}, expected HOST:PORT")
    with socket.create_connection((host.strip("[]"), int(port)), _KNOCK_S) as server:
        server.sendall(_HTTP2 + _SETTINGS)
        try:
            answer = server.recv(9)
        except TimeoutError:
            answer = b""
    if answer[3:4] != _SETTINGS[3:4]:  # the kind of a frame; gRPC opens with its settings
        raise ValueError("what listens there is not Ray")


def refusal(where: str, error: BaseException) -> str:
    """Return why a cluster cannot be used, and what to do about it."""
    text = " ".join(str(error).split())
    if text.startswith("Version mismatch"):
        return (
            f"the Ray cluster at {where} runs other versions than this machine ({text}). Install "
            "the cluster's versions of Ray and Python here"
        )
    if "exceeds the maximum size" in text:
        return (
            f"the code is too large for Ray to send to {where} ({text.split('. ')[0]}). Move data "
            "and outputs out of the folders benchmark and protocols"
        )
    return (
        f"no Ray cluster at {where} ({first_line(error)}). Start one with: ray start --head, on "
        "further machines: ray start --address HOST:6379"
    )


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message."""
    return (str(error).splitlines() or [""])[0]
