"""Who vouches for a row or a rerun: SSH signatures over all of its files, made and checked offline.

``ssh-keygen -Y`` signs with the key that people use for git already. What is signed is a text with
the row's place and the sha256 of each of its files, so a signature holds for one row at one place
and for nothing that was edited since. Further searches and watched runs, which may come later, are
not among these files. ``results/allowed_signers`` (the format of
``man ssh-keygen``) says whose keys are known. A row without a signature is allowed, and shown so.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmark.study.records import write_bytes
from benchmark.submissions import bounds
from protocols.errors import InvalidInputError

NAMESPACE = "dml-benchmark"
SIGNERS = "allowed_signers"
SUFFIX = ".sig"
CLAIM = "claim"  # a row's own signature: claim.sig; a rerun's is challenge-DATE.sig
_LATER = ("challenge-", "oracle-")  # files that may come beside a row that is signed
MAX_SIGNERS = 256 << 10  # bytes
_TYPES = ("ssh-", "ecdsa-", "sk-")  # what the name of a kind of key begins with
_TIMEOUT_S = 10
_AT_ONCE = 4


Problem = tuple[str, str]  # message, path below the results folder


def statement(results: Path, folder: Path, name: str) -> bytes:
    """Return the text that is signed.

    Args:
        results: the folder of all rows.
        folder: the row's.
        name: ``claim`` for the row's own files, or a rerun's ``challenge-DATE``.
    """
    place = folder.relative_to(results).as_posix()
    lines = [f"{NAMESPACE} {place} {name}"]
    lines += [
        f"{_sha256(path)}  {path.relative_to(folder).as_posix()}" for path in _of(folder, name)
    ]
    return ("\n".join(lines) + "\n").encode()


def check_key(key: Path) -> None:
    """Raise InvalidInputError unless rows can be signed here with this private key."""
    if not can_check():
        raise InvalidInputError("--sign needs ssh-keygen, which is not here: install OpenSSH")
    if not key.is_file():
        raise InvalidInputError(f"--sign {key}: no such file; expected a private SSH key")


def sign(results: Path, folder: Path, name: str, key: Path) -> Path:
    """Sign a row or a rerun with a private SSH key; return the signature's file.

    ssh-keygen asks for the key's passphrase itself, or takes it from an agent.

    Raises:
        InvalidInputError: it does not sign.
    """
    words = ["ssh-keygen", "-Y", "sign", "-q", "-f", str(key), "-n", NAMESPACE]
    text = statement(results, folder, name)
    done = subprocess.run(words, input=text, capture_output=True, check=False)
    if done.returncode or not done.stdout:
        said = done.stderr.decode(errors="replace").strip() or "no signature came back"
        raise InvalidInputError(f"--sign {key}: {said}")
    path = folder / f"{name}{SUFFIX}"
    write_bytes(path, done.stdout)
    return path


def signers_of(results: Path, folders: Sequence[Path]) -> dict[str, str]:
    """Return whose known key stands in each signature, by its path below ``results``.

    Whether the signature holds is for :func:`faults`; this reads it alone, so that it comes out
    the same on a machine without ssh-keygen. A key that is not known is left out.
    """
    known, found = _known_keys(results), {}
    for path in _signatures(folders):
        try:
            key = _key_in(bounds.content(path))
        except (OSError, ValueError, InvalidInputError):
            continue  # named by faults
        if key in known:
            found[path.relative_to(results).as_posix()] = known[key]
    return found


def is_known(results: Path, files: Iterable[Path]) -> bool:
    """Return whether every signature among ``files`` was made with a key that is known."""
    made = [path for path in files if path.suffix == SUFFIX]
    known = signers_of(results, list(dict.fromkeys(path.parent for path in made)))
    return all(path.relative_to(results).as_posix() in known for path in made)


def can_check() -> bool:
    """Return whether signatures can be checked here."""
    return shutil.which("ssh-keygen") is not None


def faults(results: Path, folders: Sequence[Path]) -> Iterator[Problem]:
    """Yield every signature that is not one of the files beside it as they are now.

    Without ssh-keygen none is checked, see :func:`can_check`.
    """
    paths = _signatures(folders) if can_check() else []
    if not paths:
        return
    with TemporaryDirectory() as temporary:
        signers = Path(temporary, SIGNERS)
        signers.write_bytes(_signers(results))

        def fault_of(numbered: tuple[int, Path]) -> str:
            number, path = numbered
            held = Path(temporary, f"{number}{SUFFIX}")
            try:
                held.write_bytes(bounds.content(path))
                return _fault(held, signers, statement(results, path.parent, path.stem))
            except (OSError, InvalidInputError) as error:
                return str(error)

        with ThreadPoolExecutor(_AT_ONCE) as pool:
            found = list(pool.map(fault_of, enumerate(paths)))
    for path, fault in zip(paths, found, strict=True):
        if fault:
            yield fault, path.relative_to(results).as_posix()


def _signatures(folders: Sequence[Path]) -> list[Path]:
    """Return the signatures in rows' folders; a link is named elsewhere."""
    found = (path for folder in folders for path in sorted(folder.glob(f"*{SUFFIX}")))
    return [path for path in found if path.is_file() and not path.is_symlink()]


def _fault(signature: Path, signers: Path, text: bytes) -> str:
    """Return why a signature is not one of ``text``, empty if it is."""
    held = ("-n", NAMESPACE, "-s", str(signature))
    try:
        found = _ssh("find-principals", "-f", str(signers), "-s", str(signature))
        known = found.stdout.decode(errors="replace").splitlines()
        if found.returncode == 0 and known:
            done = _ssh("verify", "-f", str(signers), "-I", known[0], *held, text=text)
        else:
            done = _ssh("check-novalidate", *held, text=text)
    except subprocess.TimeoutExpired:
        return f"ssh-keygen took more than {_TIMEOUT_S} s"
    if done.returncode == 0:
        return ""
    return "is no signature of these files as they are now: submit --sign makes a new one"


def _ssh(verb: str, *words: str, text: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        ["ssh-keygen", "-Y", verb, *words],
        input=text,
        capture_output=True,
        timeout=_TIMEOUT_S,
        check=False,
    )


def _key_in(signature: bytes) -> bytes:
    """Return the public key in an armoured signature (OpenSSH, PROTOCOL.sshsig).

    Raises:
        ValueError: it is no such signature.
    """
    lines = signature.decode("ascii").split()
    if lines[:3] != ["-----BEGIN", "SSH", "SIGNATURE-----"] or lines[-1] != "SIGNATURE-----":
        raise ValueError("no SSH signature")
    blob = base64.b64decode("".join(lines[3:-3]), validate=True)
    if blob[:10] != b"SSHSIG\x00\x00\x00\x01":
        raise ValueError("no SSH signature of version 1")
    return blob[14 : 14 + int.from_bytes(blob[10:14], "big")]


def _known_keys(results: Path) -> dict[bytes, str]:
    """Return the name of every known key's owner, by the key."""
    found: dict[bytes, str] = {}
    for line in _signers(results).decode("utf-8", errors="replace").splitlines():
        name, *rest = line.split() or [""]
        at = next((n for n, word in enumerate(rest) if word.startswith(_TYPES)), None)
        if name.startswith("#") or at is None or at + 1 >= len(rest):
            continue
        try:
            key = base64.b64decode(rest[at + 1], validate=True)
        except binascii.Error:
            continue  # ssh-keygen does not take it either
        found.setdefault(key, name.split(",")[0])
    return found


def _signers(results: Path) -> bytes:
    """Return the content of ``allowed_signers``, empty where there is none."""
    try:
        return bounds.content(results / SIGNERS, limit=MAX_SIGNERS)
    except FileNotFoundError:
        return b""


def _of(folder: Path, name: str) -> list[Path]:
    """Return the files that a signature is over, in order."""
    if name != CLAIM:
        inner = folder / name
        return [folder / f"{name}.toml", *sorted(p for p in inner.iterdir() if p.is_file())]
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and path.suffix != SUFFIX and not path.name.startswith(_LATER)
    )


def _sha256(path: Path) -> str:
    return hashlib.sha256(bounds.content(path)).hexdigest()
