"""The first use of CUDA in a process, made before its first job."""

from __future__ import annotations

import torch


def start() -> None:
    """Start CUDA and the libraries that trainings use, on the one device that this process sees.

    The first use sets an environment variable and names of torch. Made here, it is not taken for
    something that a job has changed (:mod:`benchmark.engines.guard`), which would cost every job
    a process of its own and that process' start.

    Raises:
        RuntimeError: the device cannot be used.
    """
    torch.cuda.init()  # type: ignore[no-untyped-call]
    torch.cuda.mem_get_info()
    torch.cuda.get_device_properties(0)
    torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    images = torch.zeros(1, 1, 4, 4, device="cuda")
    weights = torch.zeros(1, 1, 3, 3, device="cuda", requires_grad=True)
    torch.nn.functional.conv2d(images, weights).sum().backward()  # type: ignore[no-untyped-call]
    torch.cuda.synchronize()
