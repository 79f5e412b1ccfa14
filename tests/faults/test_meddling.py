"""Methods that change their process, each between shipped methods in one engine."""

from contextlib import ExitStack

import pytest

from benchmark.engines.local import LocalEngine
from benchmark.training.job import execute
from tests.meddling import MEDDLERS, job, source, toy, truth


@pytest.fixture
def engine(tmp_path):
    engine = LocalEngine(1, 1, tmp_path / "workers.txt")
    yield engine
    engine.close()


@pytest.mark.faults
@pytest.mark.parametrize("method", ["ms", "triplet", "untrained"])
def test_shipped_methods_keep_their_bits_beside_all(ledger, engine, tmp_path, method):
    data, names = toy(tmp_path / "cache"), tuple(MEDDLERS)
    third = ("ms", "triplet", "untrained").index(method)
    alone = truth(engine.submit(execute, job(data, method)).result(timeout=100))
    for first in range(4 * third, len(names), 12):  # four a process: starting one takes longest
        some = names[first : first + 4]
        path = tmp_path / f"{some[0]}.py"
        path.write_text(source(*some))
        with ExitStack() as rows:
            for name in some:
                fault = f"changes its process: {MEDDLERS[name][1]}"
                outcome = "no other row moves; its process is not used again"
                rows.enter_context(ledger.attempt("Methods", fault, outcome))
            engine.submit(execute, job(data, some[0], [path])).result(timeout=100)
            after = engine.submit(execute, job(data, method)).result(timeout=100)
            assert truth(after) == alone, some
