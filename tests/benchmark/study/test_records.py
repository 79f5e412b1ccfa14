"""Records are whole, checked and never silently lost."""

import json
import os
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmark.study import records
from benchmark.study.records import DamagedRecordError, JobRecord, TrialRecord
from protocols.errors import StoreError

TRIAL = TrialRecord("t", "c", 3, {"margin": 0.1, "soft": True}, "done", 0.25, [0.2, 0.3])


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "deep" / "trial-003.json"
    records.write(path, TRIAL)
    assert records.load(path) == TRIAL
    assert [p.name for p in path.parent.iterdir()] == ["trial-003.json"]


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_any_flipped_byte_is_noticed(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("flip") / "trial.json"
    records.write(path, TRIAL)
    content = bytearray(path.read_bytes())
    place = data.draw(st.integers(0, len(content) - 2))  # the last byte is a line end
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    try:
        assert records.load(path) == TRIAL  # white space between values may change freely
    except DamagedRecordError:
        assert path.read_bytes() == content, "whoever reads changes nothing"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe", b'{"sha256": "x"}'])
def test_rubbish_is_no_record(tmp_path, content):
    path = tmp_path / "trial.json"
    path.write_bytes(content)
    with pytest.raises(DamagedRecordError, match=r"trial\.json"):
        records.load(path)


def test_a_folder_a_pipe_or_a_dangling_link_is_no_record_and_no_wait(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("folder", "pipe"):
        with pytest.raises(DamagedRecordError):
            records.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        records.load(tmp_path / "link")


def test_unknown_and_missing_keys_are_damage(tmp_path):
    path = tmp_path / "trial.json"
    for change in ({"colour": "red"}, {"value": None}):
        records.write(path, TRIAL)
        body = json.loads(path.read_text())
        body.pop("sha256")
        body |= change
        if change.get("value", 1) is None:
            del body["value"]
        path.write_text(json.dumps({**body, "sha256": records._checksum(body)}))
        with pytest.raises(DamagedRecordError, match="keys differ"):
            records.load(path)


def test_no_nan_gets_into_a_record(tmp_path):
    job = JobRecord("i", "c", "search", 0, 0, {}, "done", validation={"map_at_r": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        records.write(tmp_path / "x.json", job)


def test_an_unwritable_folder_is_one_clear_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="What is recorded is safe"):
        records.write(tmp_path / "file" / "x.json", TRIAL)


def test_readers_see_whole_files_while_a_writer_rewrites(tmp_path):
    path, stop, seen = tmp_path / "x.json", threading.Event(), []
    records.write(path, TRIAL)

    def read():
        while not stop.is_set():
            seen.append(records.load(path) == TRIAL)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(100):
        records.write(path, TRIAL)
    stop.set()
    reader.join()
    assert seen
    assert all(seen)
