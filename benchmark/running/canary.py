"""Whose fault it is that jobs die: a known-good job in the same place, and a count over methods.

A job whose process died says nothing of its method where any job would die: memory that others
hold, a broken driver, a file that no worker can open. Before such a death is recorded, a tiny job
without any method's code runs in a fresh process. If that fails too, the study stops, and nothing
is written that would have to be taken back.
"""

from __future__ import annotations

from collections import Counter
from concurrent.futures import TimeoutError as NoAnswerError
from dataclasses import dataclass, field

from benchmark.engines.local import Engine
from benchmark.running.flows import Task
from protocols.errors import MachineError

PROBE_S = 300.0  # a worker that starts on a busy machine needs seconds, on a network disk a minute
# Jobs that died by chance, even one in ten of them, would do so six times in a row once in a
# million jobs. A method that dies wherever it runs counts at most half of them.
IN_A_ROW = 6
_EXPECTED = 3920.0


@dataclass(frozen=True)
class Probe:
    """Where the known-good job runs. Code of its own (``foreign``) gets a fresh process."""

    device: str
    foreign: tuple[str, ...] = ("the canary",)


def known_good(probe: Probe) -> float:
    """Return the sum of a small matrix's square, after a backward pass: 3920 on any device."""
    import torch  # in a worker, which has it loaded

    x = torch.arange(16.0, device=probe.device).reshape(4, 4).requires_grad_()  # (4, 4)
    found = (x @ x).sum()
    found.backward()  # type: ignore[no-untyped-call]
    return float(found.detach())


def probe(device: str) -> Task:
    """Return the known-good job as a task; its result says in words what failed, empty if good."""
    return Task(
        function=known_good,
        argument=Probe(device),
        timeout_s=PROBE_S,
        accept=_judge,
        lost=lambda reason: f"ended as {reason}",
    )


def check_workers(engine: Engine, device: str) -> None:
    """Run the known-good job before anything else, in a worker that is used further.

    Raises:
        MachineError: no worker can run it.
    """
    future = engine.submit(known_good, Probe(device, foreign=()))
    try:
        error = future.exception(PROBE_S)
        fault = f"{type(error).__name__}" if error else _judge(future.result())
    except NoAnswerError:
        fault = f"no answer in {PROBE_S:g} s"
    if fault:
        raise MachineError(
            f"no job can run here: a known-good one failed ({fault}). What is recorded is "
            "safe; what workers say is in workers.txt of the output folder. Fix that and run "
            "the same command again"
        )


def stop(what: str, fault: str) -> MachineError:
    """Return the error that ends a study in which ``what`` died and a known-good job after it."""
    return MachineError(
        f"{what} died, and a known-good job after it failed too ({fault}): the machine is at "
        "fault. Nothing of it is recorded; what workers say is in workers.txt of the output "
        "folder. Fix that and run the same command again"
    )


@dataclass
class Streak:
    """Jobs that the machine lost one after the other, by method."""

    methods: Counter[str] = field(default_factory=Counter)

    def ended(self, method: str, *, lost: bool) -> None:
        """Count a job that ended.

        Raises:
            MachineError: so many in a row, of several methods, are no method's fault.
        """
        if not lost:
            self.methods.clear()
            return
        self.methods[method] += 1
        most = IN_A_ROW // 2
        if sum(min(count, most) for count in self.methods.values()) >= IN_A_ROW:
            names = ", ".join(sorted(self.methods))
            raise MachineError(
                f"{self.methods.total()} jobs in a row were lost, of several methods ({names}): "
                "the machine seems at fault. The last one is not recorded. See whether memory, "
                "disk or driver gave out (workers.txt), then run the same command with "
                "--retry-failed, which redoes what was lost"
            )


def _judge(found: float) -> str:
    return "" if found == _EXPECTED else f"it computed {found:g} in place of {_EXPECTED:g}"
