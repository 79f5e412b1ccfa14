"""A search holds nothing of the test classes: not their pixels, sizes, labels or names."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

from benchmark.training import splits
from protocols.discovery import load

ROOT = Path(__file__).parents[3]
PROTOCOL = load("protocol", "toy")
# A plugin that looks through everything alive from inside a training, and writes down all bytes.
SPY = '''"""spy: triplet loss that looks around."""

import gc, mmap, os, sys
import numpy as np, torch
from protocols.method import Wants
from protocols.methods.triplet_hard import TripletHard

NAME = "stripes ".encode("utf-32-le")


def alive():
    """Yield the bytes of all arrays, tensors, buffers and maps that can be reached."""
    frame, waiting, seen = sys._getframe(), list(gc.get_objects()), {}
    while frame:
        waiting += [*frame.f_locals.values(), *frame.f_globals.values()]
        frame = frame.f_back
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen:
            continue
        seen[id(thing)] = thing
        if isinstance(thing, np.ndarray) and not isinstance(thing, np.ma.MaskedArray):
            waiting.append(thing.base)
            yield thing.tobytes()
        elif isinstance(thing, torch.Tensor) and thing.device.type == "cpu":
            yield thing.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        elif isinstance(thing, (bytes, bytearray)):
            yield bytes(thing)
        elif isinstance(thing, memoryview):
            waiting.append(thing.obj)
            yield thing.tobytes()
        elif isinstance(thing, mmap.mmap):
            yield thing[:]
        elif isinstance(thing, str):
            if thing.startswith("stripes "):  # what a class of the dataset is called
                yield thing.encode("utf-32-le")  # as an array of names holds it
        else:
            waiting += gc.get_referents(thing)


class Spy(TripletHard):
    """Looks at everything when it is asked for its second epoch's plan."""

    wants = Wants(side=frozenset({"names"}))

    def plan(self, epoch, probe, rng):
        assert type(probe).__name__ == "function"
        if epoch == 1:
            with open(os.environ["SPY"], "wb") as file:
                for found in alive():
                    if len(found) >= 256 or found.startswith(NAME):
                        file.write(found + b"|")
'''
RUN = """
import os, sys
from pathlib import Path
import numpy as np
from benchmark.study.folder import CellKey
from benchmark.training import splits
from benchmark.training.job import Job, execute
from protocols.discovery import load
protocol, cache = load("protocol", "toy"), Path(sys.argv[1])
source = splits.DataSource("toy", sys.argv[2], None, cache)
cell = CellKey("id", "toy", "tiny", "adam", "spy", "spy")
plugins = (cache / "spy.py",)
for stage in ("search", "final"):
    os.environ["SPY"] = str(cache / stage)
    job = Job(cell, protocol, load("recipe", "adam"), stage, 0, 0, {}, source, "cpu", plugins)
    outcome = execute(job)
    assert outcome.record.status == "done", outcome.record.detail
test = splits.open_test(source, protocol)
held = [test.store.image(int(i)) for i in test.index]  # faults that must be found
names = np.load(source.labels_path)["names"]
os.environ["SPY"] = str(cache / "planted")
execute(job)
"""


def test_a_plugin_finds_nothing_of_the_test_classes(tmp_path):
    source = splits.DataSource("toy", load("dataset", "toy").digest(), None, tmp_path)
    splits.prepare(source, PROTOCOL)
    (tmp_path / "spy.py").write_text(SPY, encoding="utf-8")
    words = [sys.executable, "-c", RUN, str(tmp_path), source.digest]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    test, (train, _) = splits.open_test(source, PROTOCOL), splits.open_fold(source, PROTOCOL, 0)
    called = re.compile(re.escape("stripes ".encode("utf-32-le")) + rb"((?:\d\0\0\0)+)")
    images = [test.store.image(int(i)).tobytes() for i in test.index]
    for stage, held in (("search", False), ("final", False), ("planted", True)):
        content = (tmp_path / stage).read_bytes()
        assert train.labels.tobytes() in content, "it looked at too little"
        names = {int(number.decode("utf-32-le")) for number in called.findall(content)}
        assert names == set(range(48) if held else train.labels.tolist()), f"{stage}: names"
        for image in images:
            assert (image in content) == held, f"{stage}: a test image"
        for kind in (np.int64, np.int32):
            assert (test.labels.astype(kind).tobytes() in content) == (held and kind is np.int64)


def test_test_images_cannot_be_read_through_a_fold(tmp_path):
    source = splits.DataSource("toy", load("dataset", "toy").digest(), None, tmp_path)
    test = splits.open_test(source, PROTOCOL)
    for fold in range(PROTOCOL.folds):
        train, validation = splits.open_fold(source, PROTOCOL, fold)
        assert (train.store.starts[test.index] == -1).all()
        assert not train.store.sizes[test.index].any()
        opened = np.concatenate([train.index, validation.index])
        assert (train.store.starts >= 0).sum() == len(opened)
        assert (test.store.starts[opened] == -1).all()
