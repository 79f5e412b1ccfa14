"""Failures of a device are told apart: too little memory, broken, or the method's own fault."""

import pytest
import torch

from benchmark.training import device, reasons
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
        (device.BrokenByRecordingError("a recording broke the device"), "crash", "recording"),
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
    assert device.spent(error) == spent


def test_an_error_of_a_job_whose_file_is_gone_is_no_error_of_its_method(tmp_path):
    error, there = ValueError("made of nothing"), tmp_path / "weights.pt"
    there.touch()
    assert reasons.reason_of(error, ((there,),)) == "error"
    assert reasons.reason_of(error, ((there,), (tmp_path / "gone",))) == "bad_data"


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
    assert device.first_error(caught.value) is first


def test_what_a_recording_broke_is_told_not_what_failed_before_and_after():
    refused = RuntimeError("CUDA error: operation not permitted when stream is capturing")
    broken = device.BrokenByRecordingError("a recording broke the device")
    with pytest.raises(device.BrokenByRecordingError):
        fail(refused, broken)
    after = RuntimeError("CUDA error: unspecified launch failure")
    with pytest.raises(RuntimeError, match="launch failure"):
        fail(broken, after)
    assert broken.__context__ is refused
    assert device.first_error(after) is broken


def test_a_methods_own_error_is_its_own():
    with pytest.raises(ValueError, match="b") as caught:
        fail(KeyError("a"), ValueError("b"))
    assert device.first_error(caught.value) is caught.value
