import hashlib
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from benchmark.intake.download import ATTEMPTS, fetch
from benchmark.intake.prepare import prepare
from protocols.datasets import cub200
from protocols.datasets._official import Address
from protocols.errors import DataError
from tests.benchmark.intake.test_prepare import CUB, as_cub_tgz

CONTENT = random.Random(0).randbytes(3_000_000)
BY_HAND = "birds.tgz from example.org"


@dataclass
class Site:
    """A web server of one file that can be made to misbehave.

    Attributes:
        cut_after: bytes after which an answer breaks off, one entry an answer; then none does.
        asked: the Range header of each request so far.
        sent: bytes of the file sent so far.
    """

    content: bytes = CONTENT
    tag: str = '"one"'
    ranges: bool = True
    status: int = 0
    kind: str = "application/gzip"
    cut_after: list[int] = field(default_factory=list)
    asked: list[str | None] = field(default_factory=list)
    sent: int = 0
    url: str = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        wanted = request.headers.get("Range")
        self.asked.append(wanted)
        if self.status:
            request.send_error(self.status)
            return
        start = 0
        if self.ranges and wanted and request.headers.get("If-Range", self.tag) == self.tag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if start >= len(self.content):
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(self.content)}")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        body = self.content[start:]
        request.send_response(206 if start else 200)
        if start:
            last = len(self.content) - 1
            request.send_header("Content-Range", f"bytes {start}-{last}/{len(self.content)}")
        if self.tag:
            request.send_header("ETag", self.tag)
        request.send_header("Content-Type", self.kind)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if self.cut_after:
            body = body[: self.cut_after.pop(0)]
        request.wfile.write(body)
        self.sent += len(body)
        request.close_connection = True


@pytest.fixture
def site(monkeypatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    served = Site()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            served.answer(self)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    served.url = f"http://127.0.0.1:{server.server_port}/birds.tgz"
    yield served
    server.shutdown()
    thread.join()
    server.server_close()


def address(site: Site, checksum: str | None = None) -> Address:
    right = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    return Address("birds.tgz", (site.url,), right if checksum is None else checksum)


def test_a_file_is_downloaded_and_verified(tmp_path: Path, site: Site) -> None:
    told: list[tuple[str, int, int]] = []
    path = fetch(address(site), tmp_path / "new", BY_HAND, lambda *news: told.append(news))
    assert path == tmp_path / "new" / "birds.tgz"
    assert path.read_bytes() == CONTENT
    assert [p.name for p in path.parent.iterdir()] == ["birds.tgz"]
    assert told[-1] == ("downloading birds.tgz", len(CONTENT), len(CONTENT))
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)
    fetch(address(site), tmp_path / "new", BY_HAND)
    assert len(site.asked) == 1, "what is there is not asked for again"


def test_a_broken_connection_is_taken_up_where_it_ended(tmp_path: Path, site: Site) -> None:
    site.cut_after = [1_000_000, 500_000]
    path = fetch(address(site), tmp_path, BY_HAND)
    assert path.read_bytes() == CONTENT
    assert site.asked == [None, "bytes=1000000-", "bytes=1500000-"]
    assert site.sent == len(CONTENT), "no byte twice"


class Killed(BaseException):
    """Like a kill: nothing of ours handles it."""


def test_a_killed_download_goes_on_in_the_next_run(tmp_path: Path, site: Site) -> None:
    def kill(what: str, done: int, total: int) -> None:
        if done > 1_000_000:
            raise Killed

    with pytest.raises(Killed):
        fetch(address(site), tmp_path, BY_HAND, kill)
    kept = (tmp_path / "birds.tgz.part").stat().st_size
    assert 1_000_000 < kept < len(CONTENT)
    assert not (tmp_path / "birds.tgz").exists()
    assert fetch(address(site), tmp_path, BY_HAND).read_bytes() == CONTENT
    assert site.asked == [None, f"bytes={kept}-"]


def test_a_file_that_changed_meanwhile_is_begun_anew(tmp_path: Path, site: Site) -> None:
    site.content, site.tag, site.cut_after = CONTENT[::-1], '"old"', [1_000_000, *[0] * ATTEMPTS]
    with pytest.raises(DataError, match="1,000,000 bytes are kept"):
        fetch(address(site), tmp_path, BY_HAND)
    site.content, site.tag, site.cut_after = CONTENT, '"new"', []
    assert fetch(address(site), tmp_path, BY_HAND).read_bytes() == CONTENT


@pytest.mark.parametrize("tag", ["", 'W/"weak"'])
def test_without_a_strong_tag_the_checksum_decides(tmp_path: Path, site: Site, tag: str) -> None:
    site.tag = tag
    site.cut_after = [1_000_000]
    assert fetch(address(site), tmp_path, BY_HAND).read_bytes() == CONTENT
    (tmp_path / "birds.tgz").unlink()
    (tmp_path / "birds.tgz.part").write_bytes(b"of another file")
    with pytest.raises(DataError, match=r"thrown away. Run the same command again"):
        fetch(address(site), tmp_path, BY_HAND)
    assert fetch(address(site), tmp_path, BY_HAND).read_bytes() == CONTENT


def test_a_server_without_ranges_starts_over(tmp_path: Path, site: Site) -> None:
    site.ranges, site.cut_after = False, [1_000_000]
    assert fetch(address(site), tmp_path, BY_HAND).read_bytes() == CONTENT
    assert site.asked == [None, "bytes=1000000-"]


def test_a_complete_part_is_taken_as_it_is(tmp_path: Path, site: Site) -> None:
    (tmp_path / "birds.tgz.part").write_bytes(CONTENT)
    assert fetch(address(site), tmp_path, BY_HAND).read_bytes() == CONTENT
    assert site.sent == 0


def test_a_part_that_is_too_long_is_begun_anew(tmp_path: Path, site: Site) -> None:
    (tmp_path / "birds.tgz.part").write_bytes(CONTENT + b"more")
    assert fetch(address(site), tmp_path, BY_HAND).read_bytes() == CONTENT


def test_a_wrong_checksum_is_thrown_away_and_told(tmp_path: Path, site: Site) -> None:
    with pytest.raises(DataError, match=f"expected md5:beef.*by hand: {BY_HAND}"):
        fetch(address(site, "md5:beef"), tmp_path, BY_HAND)
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_there_cut_off_is_taken_up_where_it_ends(tmp_path: Path, site: Site) -> None:
    (tmp_path / "birds.tgz").write_bytes(CONTENT[:1_000_000])
    assert fetch(address(site), tmp_path, BY_HAND).read_bytes() == CONTENT
    assert site.asked == ["bytes=1000000-"]
    assert [p.name for p in tmp_path.iterdir()] == ["birds.tgz"]


def test_a_file_that_is_there_damaged_is_thrown_away(tmp_path: Path, site: Site) -> None:
    (tmp_path / "birds.tgz").write_bytes(CONTENT[:-1] + bytes([CONTENT[-1] ^ 1]))
    with pytest.raises(DataError, match=r"thrown away. Run the same command again"):
        fetch(address(site), tmp_path, BY_HAND)
    assert fetch(address(site), tmp_path, BY_HAND).read_bytes() == CONTENT


def test_a_file_that_is_there_without_a_known_checksum_is_taken(tmp_path: Path, site: Site) -> None:
    (tmp_path / "birds.tgz").write_bytes(b"by hand")
    assert fetch(address(site, ""), tmp_path, BY_HAND).read_bytes() == b"by hand"
    assert site.asked == []


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_dead_link_says_where_to_get_it_by_hand(tmp_path: Path, site: Site, status: int) -> None:
    site.status = status
    with pytest.raises(DataError, match=f"{status}.*by hand: {BY_HAND}"):
        fetch(address(site), tmp_path, BY_HAND)
    assert len(site.asked) == 1, "a dead link is not tried again"


def test_a_tired_server_is_asked_a_few_times(tmp_path: Path, site: Site) -> None:
    site.status = 503
    with pytest.raises(DataError, match="503"):
        fetch(address(site), tmp_path, BY_HAND)
    assert len(site.asked) == ATTEMPTS


def test_a_web_page_is_not_taken_for_the_file(tmp_path: Path, site: Site) -> None:
    site.kind = "text/html; charset=utf-8"
    with pytest.raises(DataError, match="a web page is there"):
        fetch(address(site), tmp_path, BY_HAND)
    assert not list(tmp_path.iterdir())


def test_another_address_is_tried_if_one_is_dead(tmp_path: Path, site: Site) -> None:
    dead = "http://127.0.0.1:1/birds.tgz"
    both = replace(address(site), urls=(dead, "file:///etc/passwd", site.url))
    assert fetch(both, tmp_path, BY_HAND).read_bytes() == CONTENT
    with pytest.raises(DataError, match="only https, http and ftp"):
        fetch(replace(both, file="x", urls=(dead, "file:///etc/passwd")), tmp_path, BY_HAND)


def test_a_disk_that_cannot_be_written_is_told(tmp_path: Path, site: Site) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be read or written"):
        fetch(address(site), tmp_path / "file", BY_HAND)


def test_prepare_downloads_unpacks_and_verifies(tmp_path: Path, site: Site) -> None:
    site.content = as_cub_tgz(tmp_path).read_bytes()
    site.cut_after = [400]
    checksum = f"md5:{hashlib.md5(site.content).hexdigest()}"
    official = replace(CUB, addresses=(Address("CUB_200_2011.tgz", (site.url,), checksum),))
    done = prepare("cub200", tmp_path / "root", download=True, official=official)
    assert done.header.images == 12
    assert len(cub200.load(tmp_path / "root").images) == 12
    assert prepare("cub200", tmp_path / "root", download=True, official=official).fresh is False
    assert len(site.asked) == 2


def test_prepare_tells_the_command_after_a_dead_link(tmp_path: Path, site: Site) -> None:
    site.status = 404
    official = replace(CUB, addresses=(replace(address(site), file="CUB_200_2011.tgz"),))
    with pytest.raises(
        DataError, match=r"data\.caltech\.edu.*data prepare cub200 --root .* --arch"
    ):
        prepare("cub200", tmp_path, download=True, official=official)
