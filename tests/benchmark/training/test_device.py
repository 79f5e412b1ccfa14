"""Failures of a device are told apart: too little memory, broken, or the method's own fault."""

import pytest
import torch

from benchmark.training import device, job


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
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), "crash", ""),
        (MemoryError(), "oom", ""),
        (ValueError("CUDA error in a name"), "crash", ""),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_error_has_its_reason_and_says_whether_its_process_can_go_on(error, reason, spent):
    assert job.reason_of(error) == reason
    assert device.spent(error) == spent


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


def test_a_methods_own_error_is_its_own():
    with pytest.raises(ValueError, match="b") as caught:
        fail(KeyError("a"), ValueError("b"))
    assert device.first_error(caught.value) is caught.value
