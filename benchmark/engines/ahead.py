"""CUDA's driver, started in a thread while torch is imported: each takes seconds.

It says nothing: what it meets, torch meets again and tells. Nothing here imports torch.
"""

from __future__ import annotations

import ctypes
import sys
import threading

DRIVER = "libcuda.so.1"
# Seconds that anyone waits for the thread; after that torch waits for the driver, and tells.
DRIVER_S = 60.0


def start_driver(*, first_device: bool) -> threading.Thread | None:
    """Begin to start the driver; return the thread that does, None where there is no driver.

    The driver reads environment variables meanwhile, which is not safe while one is set in another
    thread: whoever sets one, or starts what may, joins the thread first.

    Args:
        first_device: whether the first device that this process sees is made ready too, as torch
            will use it: its primary context, which stays for as long as the process.
    """
    if sys.platform != "linux":
        return None
    try:
        driver = ctypes.CDLL(DRIVER)  # lets other threads run while it is called
    except OSError:
        return None
    thread = threading.Thread(target=_start, args=(driver, first_device), daemon=True)
    thread.start()
    return thread


def _start(driver: ctypes.CDLL, first_device: bool) -> None:
    if driver.cuInit(0) or not first_device:
        return
    device, context = ctypes.c_int(), ctypes.c_void_p()
    if not driver.cuDeviceGet(ctypes.byref(device), 0):
        driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
