"""Counters of a made-up machine: joules, new starts at 0, files that cannot be read."""

import threading
from types import SimpleNamespace

import pytest

from benchmark.training import energy, span
from benchmark.training.energy import Card, Packages
from benchmark.training.span import Span

RANGE = 262_143_328_850  # µJ, of a common processor


def zone(root, folder, name, value=0, most=RANGE):
    place = root / folder
    place.mkdir()
    for file, text in (("name", name), ("energy_uj", value), ("max_energy_range_uj", most)):
        (place / file).write_text(f"{text}\n")
    return place / "energy_uj"


@pytest.fixture
def clock(monkeypatch):
    now = SimpleNamespace(s=0.0)
    monkeypatch.setattr(energy.time, "monotonic", lambda: now.s)
    return now


@pytest.fixture
def packages():
    made = []

    def make(root):
        made.append(Packages(root))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_packages_are_added_and_parts_of_them_are_not(tmp_path, packages):
    first = zone(tmp_path, "intel-rapl:0", "package-0", 5_000_000)
    second = zone(tmp_path, "intel-rapl:1", "package-1", 70_000_000)
    others = [
        zone(tmp_path, "intel-rapl:0:0", "core", 1),
        zone(tmp_path, "intel-rapl:2", "psys", 1),
        zone(tmp_path, "intel-rapl-mmio:0", "package-0", 1),
    ]
    counted = packages(tmp_path)
    first.write_text("6500000\n")
    second.write_text("72000000\n")
    for other in others:
        other.write_text("999000000\n")
    assert counted.read() == pytest.approx(3.5)


def test_a_counter_that_starts_again_at_0_goes_on(tmp_path, packages, clock):
    file = zone(tmp_path, "intel-rapl:0", "package-0", RANGE - 2_000_000)
    counted = packages(tmp_path)
    clock.s = 60.0
    file.write_text("3000000")
    assert counted.read() == pytest.approx(5.0)
    clock.s = 120.0
    file.write_text("1000000")  # round once more, all but 2 J
    assert counted.read() == pytest.approx(5.0 + RANGE / 1e6 - 2.0)


def test_a_counter_that_was_not_read_for_too_long_does_not_tell(tmp_path, packages, clock):
    """65 kJ are full in 66 s at 1 kW: what went on in between cannot be known."""
    file = zone(tmp_path, "intel-rapl:0", "package-0", most=65_532_610_987)
    counted = packages(tmp_path)
    clock.s, _ = 65.0, file.write_text("2000000")
    assert counted.read() == pytest.approx(2.0)
    clock.s, _ = 131.0, file.write_text("4000000")
    assert counted.read() is None
    clock.s, _ = 132.0, file.write_text("5000000")
    assert counted.read() is None, "what was lost stays lost"


@pytest.mark.parametrize("wrong", ["folder", "text", "gone", "negative name"])
def test_what_cannot_be_read_is_not_told(tmp_path, packages, wrong):
    zone(tmp_path, "intel-rapl:0", "package-0")
    file = zone(tmp_path, "intel-rapl:1", "package-1")
    file.unlink()
    if wrong == "folder":
        file.mkdir()
    elif wrong == "text":
        file.write_text("no number")
    elif wrong == "negative name":
        (file.parent / "name").write_bytes(b"\xff\xfe")
    assert packages(tmp_path).read() is None


def test_what_may_not_be_read_is_not_told(tmp_path, packages, monkeypatch):
    """As for anybody but root on most machines; root itself may read all, so it is made up."""
    file = zone(tmp_path, "intel-rapl:0", "package-0")
    read = energy.Path.read_text

    def refused(path, *words):
        if path == file:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, *words)

    monkeypatch.setattr(energy.Path, "read_text", refused)
    assert packages(tmp_path).read() is None


def test_a_file_that_is_refused_later_ends_it(tmp_path, packages):
    file = zone(tmp_path, "intel-rapl:0", "package-0")
    counted = packages(tmp_path)
    file.write_text("1000000")
    assert counted.read() == pytest.approx(1.0)
    file.unlink()
    assert counted.read() is None
    file.write_text("2000000")
    assert counted.read() is None


def test_a_counter_that_stands_still_counts_nothing(tmp_path, packages):
    zone(tmp_path, "intel-rapl:0", "package-0", 7)
    assert packages(tmp_path).read() is None


def test_a_machine_without_counters_starts_no_thread(tmp_path, packages):
    before = threading.active_count()
    counted = packages(tmp_path / "none")
    assert threading.active_count() == before
    assert counted.read() is None


def test_long_jobs_are_read_by_the_way(tmp_path, monkeypatch):
    """Round twice: 10 J range, 8 J each time it is read."""
    monkeypatch.setattr(energy, "EVERY_S", 0.001)
    monkeypatch.setattr(energy, "MOST_W", 1e-6)  # however long this machine takes in between
    file = zone(tmp_path, "intel-rapl:0", "package-0", most=10_000_000)
    counted, seen = Packages(tmp_path), threading.Event()
    now = energy._Zone._now

    def noted(self):
        seen.set()
        return now(self)

    monkeypatch.setattr(energy._Zone, "_now", noted)
    for value in ("8000000", "6000000", "4000000"):
        (tmp_path / "next").write_text(value)
        (tmp_path / "next").replace(file)  # never half a number
        for _ in range(2):  # the first reading may have begun before the file was written
            seen.clear()
            assert seen.wait(5)
    counted.close()
    assert counted.read() == pytest.approx(24.0)
    assert not any(thread.name == "packages" for thread in threading.enumerate())


class Nvml:
    """What pynvml offers, of one card that counts millijoules."""

    class NVMLError(Exception):
        pass

    def __init__(self, *counts):
        self.counts = list(counts)

    def nvmlInit(self):  # noqa: N802 - NVML's name
        pass

    def nvmlDeviceGetHandleByUUID(self, uuid):  # noqa: N802
        if uuid != b"GPU-one":
            raise self.NVMLError("Not Found")
        return "handle"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle):  # noqa: N802
        assert handle == "handle"
        if not self.counts:
            raise self.NVMLError("Not Supported")
        return self.counts.pop(0)


def test_a_card_counts_millijoules(monkeypatch):
    monkeypatch.setattr(energy, "import_module", lambda name: Nvml(1_000, 1_000, 251_500))
    card = Card("one")
    assert card.read() is None, "it has not counted yet"
    assert card.read() == pytest.approx(250.5)
    assert card.read() is None, "it does not answer any more"


@pytest.mark.parametrize(("uuid", "counts"), [("one", ()), ("other", (1, 2)), ("", (1, 2))])
def test_a_card_that_does_not_count(monkeypatch, uuid, counts):
    monkeypatch.setattr(energy, "import_module", lambda name: Nvml(*counts))
    assert Card(uuid).read() is None


def test_without_pynvml_nothing_is_told(monkeypatch):
    def absent(name):
        raise ModuleNotFoundError(name)

    monkeypatch.setattr(energy, "import_module", absent)
    assert Card("one").read() is None


def test_a_span_says_where_and_when_and_what_was_told(tmp_path, monkeypatch):
    file = zone(tmp_path, "intel-rapl:0", "package-0")
    monkeypatch.setattr(span, "Packages", lambda: Packages(tmp_path))
    made = Span("cpu")
    file.write_text("4250000")
    told = made.told()
    made.close()
    assert told.keys() == {"machine", "start", "end", "package_j"}
    assert told["package_j"] == 4.25
    assert 0 <= told["end"] - told["start"] < 5
    assert len(told["machine"]) == 12
    assert told["machine"] == span.machine()


def test_a_machine_that_tells_nothing_leaves_joules_out(tmp_path, monkeypatch):
    monkeypatch.setattr(span, "Packages", lambda: Packages(tmp_path))
    made = Span("cpu")
    assert made.told().keys() == {"machine", "start", "end"}


def test_a_card_without_a_number_is_told_from_others(monkeypatch):
    monkeypatch.setattr(span, "uuid_of", lambda device: "")
    found = {span.card_of("cuda:0"), span.card_of("cuda:1"), span.card_of("cpu")}
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    found.add(span.card_of("cuda:0"))
    assert len(found) == 4
    assert "" in found
