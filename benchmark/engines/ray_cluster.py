"""Jobs on the machines of a Ray cluster: the only file that imports ray.

Nothing is shared but the network. The code of both packages travels as Ray's runtime
environment; the files a job reads (decoded images, plugins, weights) go into Ray's object store
once, in pieces, and each machine writes its own copy when its first job asks for it. Results
come back by value. A machine that is lost fails its jobs with :class:`WorkerLostError`, and the
scheduler tries them again as the protocol says.

As on one machine, a process runs one method's code only: Ray's workers are shared by jobs of what
ships, and one that a job has changed, or that has run anything else, runs nothing more.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import ray
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import benchmark
import protocols
from benchmark.engines.isolation import Answer, foreign, run_alone
from benchmark.engines.parcels import Parcel, pack, unpack
from benchmark.engines.ray_address import first_line, knock, refusal
from benchmark.engines.worker import JOBS_A_CARD, set_up_torch
from benchmark.streams import open_streams
from protocols.errors import InvalidInputError, MachineError

T = TypeVar("T")
# Ray ends this process without a word to it when the head has been silent for a minute.
_ASK_S, _SILENT_S = 1.0, 20.0
_PAYS_S = 600.0  # for a machine that others use, and processes that load torch
FileGroup = tuple[Path, ...]


class Movable(Protocol):
    """An argument that reads files, such as a job."""

    def files(self) -> tuple[FileGroup, ...]:
        """Return the files, in groups that must lie in one folder."""
        ...

    def moved(self, moved_path: Callable[[Path], Path]) -> Any:
        """Return the argument for a machine where each file lies at ``moved_path(file)``."""
        ...


class WorkerLostError(Exception):
    """A job's worker or its machine died, or was killed for taking too long."""


def connect(address: str | None, threads: int) -> None:
    """Join the cluster at ``address`` and hand it this code; ``None`` finds one on this machine.

    Raises:
        InvalidInputError: there is no cluster.
    """
    if ray.is_initialized():
        return
    packages = [str(Path(package.__path__[0]).resolve()) for package in (benchmark, protocols)]
    try:
        if address:
            knock(address)
        ray.init(
            address=address or "auto",
            runtime_env={
                "py_modules": packages,
                "excludes": ["**/__pycache__"],
                "env_vars": {"OMP_NUM_THREADS": str(threads)},
            },
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (OSError, ValueError, RuntimeError, RayError) as error:
        raise InvalidInputError(refusal(address or "this machine", error)) from error


def shortage(threads: int, gpus: float) -> str:
    """Return what to say where no machine of the cluster can run a job, nothing if one can."""
    if any(_fit(node["Resources"], threads, gpus) for node in _nodes() if node["Alive"]):
        return ""
    need = f"{threads} CPU(s)" + (f" and {gpus:g} GPU(s)" if gpus else "")
    return (
        f"no machine of the Ray cluster has {need}, which a job needs: jobs wait until an "
        "autoscaler adds one. Without an autoscaler add one: ray start --address HOST:6379"
    )


def pick_device(asked: str) -> str:
    """Return ``cpu`` or ``cuda``, whichever the cluster has and was asked for.

    Raises:
        InvalidInputError: CUDA was asked for and no machine has a GPU.
    """
    gpus = ray.cluster_resources().get("GPU", 0)  # type: ignore[no-untyped-call]
    if asked == "auto":
        return "cuda" if gpus else "cpu"
    if asked not in ("cpu", "cuda"):
        raise InvalidInputError(f"device {asked!r}: Ray assigns devices; use auto, cpu or cuda")
    if asked == "cuda" and not gpus:
        raise InvalidInputError("device 'cuda': no machine of the Ray cluster has a GPU")
    return asked


class RayEngine:
    """Workers on a Ray cluster that :func:`connect` has joined.

    Args:
        most: how many jobs may run at once, however large the cluster; None for no limit.
        threads: CPU threads, and CPUs, of each.
        gpus: share of a GPU of each; 0 on the CPU.
        log: file that takes a line per lost worker; what workers print is in Ray's own logs.
        deterministic: see :func:`benchmark.engines.worker.set_up_torch`.
    """

    lost: type[Exception] = WorkerLostError

    def __init__(
        self, most: int | None, threads: int, gpus: float, log: Path, *, deterministic: bool
    ) -> None:
        self._most, self._threads, self._gpus, self._log = most, threads, gpus, log
        self._deterministic = deterministic
        self._running: dict[Future[Any], Any] = {}
        self._parcels: dict[Path, Parcel] = {}
        self._heard, self._nodes = time.monotonic(), _nodes()
        self._closed = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def capacity(self) -> int:
        """Return how many jobs the machines that are alive can run at once, at least one.

        With none alive a job waits in Ray's queue for one to come.

        Raises:
            MachineError: the head of the cluster is silent.
        """
        if self._silent:
            raise MachineError(
                f"the head of the Ray cluster has not answered for {_SILENT_S:.0f} s. What is "
                "recorded is safe: start the cluster again and run the same command again"
            )
        alive = [node["Resources"] for node in self._nodes if node["Alive"]]
        jobs = sum(_fit(node, self._threads, self._gpus) for node in alive)
        return max(1, jobs if self._most is None else min(jobs, self._most))

    def start(self, *modules: str) -> None:
        """Do nothing: Ray starts a worker with its first job."""

    def share_cards(self, pays: Callable[[int, Any], int], argument: Any) -> int:
        """Let as many jobs share a GPU as pay on every kind of machine that is there now.

        Returns the number. Where it cannot be measured a job runs alone: it says itself what is
        wrong there, and the log says why there is no number.

        Args:
            pays: returns how many do, asked on one machine of each kind with a whole GPU to itself:
                ``pays(most, argument)``, no more than ``most``.
            argument: like that of :meth:`submit`.
        """
        kinds = {_kind(node["Resources"]): node for node in self._nodes if node["Alive"]}
        asked: list[Future[int]] = []
        for node in kinds.values():
            resources = node["Resources"]
            if not _fit(resources, self._threads, 1.0):
                continue
            most = int(resources["CPU"] // self._threads // resources["GPU"])
            most = most if self._most is None else min(most, self._most)
            if most > 1:  # elsewhere its CPUs leave room for no second job
                there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
                asked.append(self._submit(partial(pays, most), argument, 1.0, there))
        jobs = min(map(self._answer, asked), default=1)
        self._gpus = 1 / jobs
        return jobs

    def _answer(self, asked: Future[int]) -> int:
        """Return how many jobs pay, 1 where no answer came; the log says why."""
        try:
            error = asked.exception(_PAYS_S)
        except TimeoutError:
            self.cancel(asked)
            error = TimeoutError(f"no answer in {_PAYS_S:g} s")
        if error is None:
            return asked.result()
        self._say(f"how many jobs pay on a GPU is not known: {first_line(error)}")
        return 1

    def submit(self, function: Callable[[Any], T], argument: Any) -> Future[T]:
        """Start ``function(argument)`` somewhere in the cluster."""
        return self._submit(function, argument, self._gpus)

    def _submit(
        self,
        function: Callable[[Any], T],
        argument: Any,
        gpus: float,
        where: Any = "DEFAULT",
    ) -> Future[T]:
        """Start ``function(argument)`` where so much of a GPU is, by a strategy of Ray's."""
        files = cast(Movable, argument).files() if hasattr(argument, "files") else ()
        groups = [tuple(map(self._parcel, group)) for group in files]
        share = max(1, int(1 / gpus + 1e-9)) if gpus else 1
        call = (function, argument, groups, self._threads, self._deterministic, share)
        needs = {"num_cpus": self._threads, "num_gpus": gpus, "scheduling_strategy": where}
        future: Future[T] = Future()
        self._send(future, call, needs, once=bool(gpus or foreign(argument)))
        return future

    def cancel(self, future: Future[Any]) -> None:
        """Kill the worker of ``future``, which then fails with WorkerLostError."""
        if ref := self._running.get(future):
            ray.cancel(ref, force=True)

    def close(self) -> None:
        """Kill all workers of this study and leave the cluster."""
        self._closed.set()
        if self._silent:  # nothing can be killed there, and leaving would wait for the head
            atexit.unregister(ray.shutdown)
            return
        for future in list(self._running):
            self.cancel(future)
        ray.shutdown()

    @property
    def _silent(self) -> bool:
        return time.monotonic() - self._heard > _SILENT_S

    def _listen(self) -> None:
        """Ask the head which machines there are, again and again: a dead one never answers."""
        while not self._closed.wait(_ASK_S):
            with suppress(RayError, RuntimeError):  # silence is noticed by its length
                self._nodes = _nodes()
                self._heard = time.monotonic()

    def _send(
        self, future: Future[Any], call: tuple[Any, ...], needs: dict[str, Any], *, once: bool
    ) -> None:
        """Give a call to a worker of Ray's, which ends after it if it is one for ``once``."""
        work = _work_once if once else _work
        self._running[future] = ref = work.options(**needs, max_retries=0).remote(*call)
        ref.future().add_done_callback(lambda done: self._settle(future, call, needs, done))

    def _settle(
        self,
        future: Future[Any],
        call: tuple[Any, ...],
        needs: dict[str, Any],
        done: Future[Any],
    ) -> None:
        """Pass on what Ray says about a job, from a thread of Ray's."""
        error = done.exception()
        if error is None and done.result() is None:
            # Refused by a worker that is spent. Sent to one that ends after its call, the call
            # ends that worker, or finds another.
            self._send(future, call, needs, once=True)
            return
        self._running.pop(future, None)
        if error is None:
            future.set_result(done.result().result)
        elif isinstance(error, RayTaskError) or not isinstance(error, RayError):
            future.set_exception(getattr(error, "cause", None) or error)
        else:
            reason = f"{type(error).__name__}: {first_line(error)}"
            self._say(f"worker lost: {reason}")
            future.set_exception(WorkerLostError(reason))

    def _say(self, line: str) -> None:
        with suppress(OSError), self._log.open("a", encoding="utf-8") as file:
            file.write(f"{line}\n")

    def _parcel(self, path: Path) -> Parcel:
        """Return ``path`` as a parcel, put into the object store at its first use."""
        if path not in self._parcels:
            self._parcels[path] = pack(path, ray.put)
        return self._parcels[path]


def _nodes() -> list[dict[str, Any]]:
    return list(ray.nodes())  # type: ignore[no-untyped-call]


def _kind(resources: dict[str, float]) -> tuple[Any, ...]:
    """Return what a machine's jobs a GPU depend on: its GPUs, and how many CPUs each has."""
    cards = sorted(name for name in resources if name.startswith("accelerator_type:"))
    return (*cards, resources.get("GPU", 0), resources.get("CPU", 0))


def _fit(resources: dict[str, float], threads: int, gpus: float) -> int:
    """Return how many jobs a machine with ``resources`` runs at once."""
    jobs = int(resources.get("CPU", 0) // threads)
    if not gpus:
        return jobs
    each = resources.get("GPU", 0)  # the whole of a job's share lies on one GPU
    return min(jobs, int(each // gpus if gpus >= 1 else each * int(1 / gpus + 1e-9)))


def _here(
    function: Callable[[Any], Any],
    argument: Any,
    groups: list[tuple[Parcel, ...]],
    threads: int,
    deterministic: bool,
    jobs_a_card: int,
) -> Answer[Any] | None:
    """Run ``function(argument)`` on this machine, with the files it reads beside it.

    None if this process must not run anything more: an earlier job has changed it.
    """
    if _Process.spent:
        return None
    _set_up(threads, deterministic, jobs_a_card)
    if groups:
        places = {
            p.path: folder / p.path.name for group in groups for folder, p in unpack(group, ray.get)
        }
        argument = argument.moved(places.__getitem__)
    _Process.spent = True  # also if the next line raises
    answer = run_alone(function, argument)
    _Process.spent = bool(answer.spent)
    return answer


class _Process:
    """What is known about this worker's process."""

    spent = False


_work = ray.remote(_here)
# A process that has started CUDA keeps its first GPU, whichever one Ray gives its next job.
_work_once = ray.remote(max_calls=1)(_here)


@lru_cache(maxsize=1)
def _set_up(threads: int, deterministic: bool, jobs_a_card: int) -> None:
    os.environ[JOBS_A_CARD] = str(jobs_a_card)
    open_streams("utf-8")  # as on one machine
    set_up_torch(threads, deterministic=deterministic)
    import benchmark.engines.guard  # noqa: F401  (now, and not while the first job is timed)
