"""Failures of a device are told apart: too little memory, broken, or the method's own fault."""

from contextlib import nullcontext

import pytest
import torch

from benchmark.broken import BrokenByRecordingError, first_error, spent_by
from benchmark.training import checkpoint, device, graphs, reasons
from protocols.errors import DataError, StoreError


@pytest.mark.parametrize(
    ("error", "reason", "spent"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"), "oom", "crowded"),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors"), "oom", "crowded"),
        (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"),
            "oom",
            "crowded",
        ),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), "oom", "crowded"),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), "crash", "broken"),
        (RuntimeError("CUDA error: device-side assert triggered"), "crash", "broken"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED"), "crash", "broken"),
        (RuntimeError("CUDA driver error: device not ready"), "crash", "broken"),
        (RuntimeError("Triton Error [CUDA]: an illegal memory access"), "crash", "broken"),
        (RuntimeError("Triton Error [CUDA]: out of memory"), "oom", "crowded"),
        (RuntimeError("cuFFT error: CUFFT_INTERNAL_ERROR"), "crash", "broken"),
        (RuntimeError("cuFFT error: CUFFT_ALLOC_FAILED"), "oom", "crowded"),
        (RuntimeError("Unexpected error from cudaGetDeviceCount(). Error 807"), "crash", "broken"),
        (RuntimeError("CUDA: MPS server is not ready to accept requests"), "crash", "broken"),
        (RuntimeError("MPS backend out of"), "error", ""),  # Apple's, another thing altogether
        (BrokenByRecordingError("a recording broke the device"), "crash", "recording"),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "error", ""),
        (MemoryError(), "oom", ""),
        (ValueError("CUDA error in a name"), "error", ""),
        (SystemExit(0), "error", ""),
        (FileNotFoundError(2, "No such file or directory"), "error", ""),
        (OSError(28, "No space left on device"), "crash", ""),
        (OSError(24, "Too many open files"), "crash", ""),
        (BlockingIOError(11, "Resource temporarily unavailable"), "crash", ""),
        (DataError("an image cannot be read"), "bad_data", ""),
        (StoreError("no room for the decoded images"), "bad_data", ""),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_error_has_its_reason_and_says_whether_its_process_can_go_on(error, reason, spent):
    assert reasons.reason_of(error) == reason
    assert spent_by(error) == spent


def test_an_error_of_a_job_whose_file_is_gone_is_no_error_of_its_method(tmp_path):
    error, there = ValueError("made of nothing"), tmp_path / "weights.pt"
    there.touch()
    assert reasons.reason_of(error, ((there,),)) == "error"
    assert reasons.reason_of(error, ((there,), (tmp_path / "gone",))) == "bad_data"


def test_a_record_says_that_jobs_use_a_gpu_together_and_a_checkpoint_does_not_ask(monkeypatch):
    monkeypatch.setattr(device, "described", lambda name: {"device": name})
    monkeypatch.delenv("DML_MPS", raising=False)
    assert device.recorded("cuda") == {"device": "cuda"}
    monkeypatch.setenv("DML_MPS", "1")
    assert device.recorded("cuda") == {"device": "cuda", "mps": True}
    assert device.recorded("cpu") == {"device": "cpu"}
    assert "mps" not in checkpoint.identity("job", "cuda")


def fail(inner, outer):
    """Raise ``outer`` while ``inner`` is dealt with."""
    try:
        raise inner
    finally:
        raise outer


def test_the_first_error_is_told_not_the_one_of_tidying_up():
    first = RuntimeError("CUDA error: device-side assert triggered")
    with pytest.raises(RuntimeError) as caught:
        fail(first, RuntimeError("CUDA error: unspecified launch failure"))
    assert first_error(caught.value) is first


def test_what_a_recording_broke_is_told_not_what_failed_before_and_after():
    refused = RuntimeError("CUDA error: operation not permitted when stream is capturing")
    broken = BrokenByRecordingError("a recording broke the device")
    with pytest.raises(BrokenByRecordingError):
        fail(refused, broken)
    after = RuntimeError("CUDA error: unspecified launch failure")
    with pytest.raises(RuntimeError, match="launch failure"):
        fail(broken, after)
    assert broken.__context__ is refused
    assert first_error(after) is broken


NO_ROOM = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
ASSERT = RuntimeError("CUDA error: device-side assert triggered")
MINE = ValueError("I give up")


@pytest.mark.parametrize(
    ("earlier", "later", "told", "reason", "spent"),
    [
        (KeyError("kept"), NO_ROOM, NO_ROOM, "oom", "crowded"),
        (KeyError("kept"), ASSERT, ASSERT, "crash", "broken"),
        (ASSERT, MINE, ASSERT, "crash", "broken"),  # a method's own word for it
        (NO_ROOM, MINE, NO_ROOM, "oom", "crowded"),
        (NO_ROOM, ASSERT, NO_ROOM, "oom", "broken"),
    ],
)
@pytest.mark.parametrize("tied", ["raised while dealing with it", "raised from it"])
def test_a_device_that_failed_on_the_way_is_told(earlier, later, told, reason, spent, tied):
    from_it = tied == "raised from it"
    first, last = (type(each)(*each.args) for each in (earlier, later))
    setattr(last, "__cause__" if from_it else "__context__", first)
    found = first_error(last)
    assert found is (first if told is earlier else last)
    assert (reasons.reason_of(found), spent_by(last)) == (reason, spent)


def test_errors_tied_to_a_circle_come_to_an_end():
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    assert first_error(one) is one
    assert spent_by(one) == ""


def test_a_device_answers_unless_one_of_its_calls_is_refused(monkeypatch):
    assert device.answers(torch.device("cpu"))
    card, kept = torch.device("cuda"), []
    rand = torch.rand
    monkeypatch.setattr(torch, "rand", lambda size, device: rand(size))
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda place: "state")
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, place: kept.append(state))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda place: None)
    assert device.answers(card)
    assert kept == ["state"]

    def refused(*arguments):
        raise RuntimeError("Offset increment outside graph capture encountered unexpectedly.")

    for call in ("get_rng_state", "synchronize"):
        with monkeypatch.context() as patch:
            patch.setattr(torch.cuda, call, refused)
            assert not device.answers(card)


class Graph:
    """What torch's recording is to its recorder."""

    def replay(self):
        """Do nothing."""


def test_a_recording_that_failed_leaves_its_pool_behind(monkeypatch):
    pools, used, played = iter(range(9)), [], []

    def graph(graph, pool, stream):
        used.append(pool)
        return nullcontext()

    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: next(pools))
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: None)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    recorder = graphs.CudaRecorder()

    def fails():
        raise RuntimeError("operation not permitted when stream is capturing")

    played.append(recorder.record(lambda: None))
    with pytest.raises(RuntimeError, match="not permitted"):
        recorder.record(fails)
    played += [recorder.record(lambda: None) for _ in range(2)]
    first, failed, *later = used
    assert first == failed
    assert later == [later[0]] * 2
    assert later[0] != first


def test_a_methods_own_error_is_its_own():
    with pytest.raises(ValueError, match="b") as caught:
        fail(KeyError("a"), ValueError("b"))
    assert first_error(caught.value) is caught.value


@pytest.mark.parametrize(
    ("kind", "precision", "wanted"),
    [
        ("cpu", "fp32", torch.channels_last),
        ("cpu", "bf16", torch.channels_last),
        ("cuda", "fp32", torch.contiguous_format),
        ("cuda", "bf16", torch.channels_last),
    ],
)
def test_images_lie_plane_by_plane_for_whole_float32_on_a_gpu(kind, precision, wanted):
    assert device.layout(torch.device(kind), precision) is wanted
