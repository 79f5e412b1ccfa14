"""What a command asks for, beside what a folder holds by the time that it is locked."""

from dataclasses import replace

import pytest

from benchmark.cli import make_parser
from benchmark.running.setup import read_again, set_up
from benchmark.study.folder import load_study
from protocols.errors import StoreError


def asked_for(out, *words):
    return set_up(make_parser().parse_args(["run", "--protocol", "toy", *words, "--out", str(out)]))


def test_cells_that_another_run_added_before_the_folder_was_locked_stay(tmp_path):
    out = tmp_path / "out"
    early = asked_for(out, "--methods", "ms", "--seeds", "3")
    asked_for(out, "--methods", "triplet", "--seeds", "2").study.save()  # another one, meanwhile
    asked = read_again(early)
    assert asked.keys == early.keys
    asked.study.save()
    held = load_study(out)
    assert [cell.row for cell in held.cells] == ["ms", "triplet", "untrained"]
    assert held.protocol.seeds == 3
    assert read_again(early).study == held


def test_a_folder_that_got_other_rules_meanwhile_is_refused(tmp_path):
    early = asked_for(tmp_path / "out", "--methods", "ms")
    assert read_again(early) is early, "nothing is there yet"
    other = replace(early.study.protocol, batch_size=early.study.protocol.batch_size * 2)
    replace(early.study, protocol=other).save()
    with pytest.raises(StoreError, match="under other rules"):
        read_again(early)
