"""The jobs of a study and what runs them: made, looked at and measured before work begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from benchmark.commands.kept import keep_of
from benchmark.commands.lines import say
from benchmark.engines import mps
from benchmark.running.bound import JobSeconds, at_most
from benchmark.running.expected import OVERHEAD_S, expected, sizes_of
from benchmark.running.setup import Asked, Ready
from benchmark.study import partials
from benchmark.study.folder import CellKey
from benchmark.study.grid import CellPlan
from protocols.recipe_search import recipe_of
from protocols.space import Settings, Space, defaults

if TYPE_CHECKING:
    from benchmark.engines.local import Engine
    from benchmark.running.coordinator import JobMaker
    from benchmark.training.first_look import FirstLook
    from benchmark.training.job import Job
    from benchmark.training.room import Undecoded

SHORT_S = 60.0  # of work for which it is not measured how many jobs of a GPU pay


def check_phases(asked: Asked, plans: list[CellPlan]) -> None:
    """Raise InvalidInputError where a budget ends before a phase of its method begins."""
    from benchmark.running.phases import timetables  # here: it imports torch

    timetables(asked, plans)


def look_before(
    console: Console, asked: Asked, ready: Ready, plans: list[CellPlan], engine: Engine
) -> list[FirstLook]:
    """Return what first steps showed; raise InvalidInputError where jobs could only fail."""
    from benchmark.running.preflight import check_memory, look_first

    new = {item.cell.method for item in plans if not (item.trials_done or item.runs_done)}
    for method in asked.registry.own("method"):
        if method in new:
            path = asked.registry.source("method", method)
            say(console, f"a study does not test {path.name}: python -m benchmark check does")
    found = look_first(plans, first_job(asked, ready), engine, partial(say, console))
    if ready.device == "cpu" and asked.options.engine == "local":
        check_memory(found, ready.workers or 1)
    return found


def first_job(asked: Asked, ready: Ready) -> Callable[[CellKey], Job]:
    """Return what builds a cell's first job, with its method's defaults."""
    make, space = job_maker(asked, ready), space_of(asked)

    def first(cell: CellKey) -> Job:
        return make(cell, "search", 0, 0, defaults(space(cell)) if cell.searched else {})

    return first


@contextmanager
def engine_for(console: Console, asked: Asked, ready: Ready, place: Path) -> Iterator[Engine]:
    """Yield workers, with the datasets decoded for them; kill them at the end.

    Args:
        console: where damaged files and a lack of machines are said.
        asked: the study, and where its datasets are decoded.
        ready: the devices and how many jobs run at once.
        place: the folder where what workers print is kept.
    """
    from benchmark.running.canary import check_workers
    from benchmark.running.preflight import check_trunks
    from benchmark.training import splits

    with ExitStack() as held:  # ended in the opposite order: workers first
        service = held.enter_context(mps.serving(asked.environment)) if ready.mps else None
        pipes = service.pipes if service else None
        engine = make_engine(asked, ready, place / "workers.txt", pipes)
        held.callback(engine.close)
        engine.start("benchmark.training.job")
        if long := to_decode_long(asked):
            if asked.options.engine == "local":  # elsewhere a job travels with its images
                check_trunks(asked.keys, first_job(asked, ready), engine)
            say_decoding(console, long)
        for source in asked.sources.values():
            for path in splits.prepare(source, asked.study.protocol):
                say(console, f"{path.name} is damaged or has no checksum: made anew")
        if asked.options.engine == "ray":
            from benchmark.engines.ray_cluster import shortage

            if lack := shortage(asked.study.protocol.threads_per_job, _gpus_of(asked, ready)):
                say(console, lack)
        if asked.options.engine == "local":  # elsewhere there may be no free worker for long
            check_workers(engine, ready.device)
        if service:
            service.check_used()
        yield engine


def to_decode_long(asked: Asked) -> list[Undecoded]:
    """Return the datasets whose images are still to be decoded, and take long.

    Raises:
        StoreError: there is no room for those to be decoded.
    """
    from benchmark.training import room

    wanted = room.undecoded(asked.sources.values(), asked.study.protocol)
    room.check_room(wanted)
    return [each for each in wanted if each.least >= room.LARGE_BYTES]


def say_decoding(console: Console, wanted: list[Undecoded]) -> None:
    """Say where images are decoded that take long."""
    from benchmark.training.room import gigabytes

    for each in wanted:
        size = f"{each.images:,} images of {each.title}, {gigabytes(each.least)} at least"
        say(console, f"decoding {size}, into {each.folder}")


def make_engine(asked: Asked, ready: Ready, log: Path, pipes: Path | None = None) -> Engine:
    """Return the engine that was asked for.

    Args:
        asked: by which options.
        ready: the devices and how many jobs run at once.
        log: takes what workers print.
        pipes: of the daemon by which they share cards; None without one.
    """
    options, threads = asked.options, asked.study.protocol.threads_per_job
    strict = options.deterministic
    if options.engine == "ray":
        from benchmark.engines.ray_cluster import RayEngine

        gpus = _gpus_of(asked, ready)
        return RayEngine(ready.workers, threads, gpus, log, deterministic=strict)
    from benchmark.engines.local import LocalEngine

    workers = ready.workers or 1  # make_ready counts those of this machine
    return LocalEngine(
        workers,
        threads,
        log,
        deterministic=strict,
        devices=ready.devices,
        environment=asked.environment,
        mps=pipes,
    )


def _gpus_of(asked: Asked, ready: Ready) -> float:
    """Return a job's share of a GPU under Ray: a whole one until it is known how many pay."""
    return (asked.options.gpus_per_job or 1.0) if ready.device == "cuda" else 0.0


def job_maker(asked: Asked, ready: Ready) -> JobMaker:
    """Return what builds this study's jobs."""
    from benchmark.training.job import Job

    keep = keep_of(asked) != "none"
    codes = {
        key.id: (
            ("method", key.method, record.identity["method_code"]),
            ("trunk", key.trunk.partition("+")[0], record.identity["trunk_code"]),
        )
        for key, record in asked.cells
    }

    def make(cell: CellKey, stage: str, number: int, fold: int, settings: Settings) -> Job:
        return Job(
            cell=cell,
            protocol=asked.study.protocol.on(cell.dataset),
            recipe=recipe_of(asked.recipes[cell.recipe], settings),
            stage=stage,
            number=number,
            fold=fold,
            settings=settings,
            source=asked.sources[cell.dataset],
            device=ready.device,
            weights=asked.weights,
            plugins=asked.registry.plugins,
            partial=partials.path_of(asked.study, cell, stage, number, fold),
            keep=keep and stage == "final",
            codes=codes[cell.id],
        )

    return make


def space_of(asked: Asked) -> Callable[[CellKey], Space]:
    """Return what looks up a cell's search space, as it was when it was first asked for."""

    @cache
    def look_up(cell: CellKey) -> Space:
        from protocols.narrowing import space_under  # here: it imports torch

        method = asked.registry.load("method", cell.method)
        recipe = asked.recipes[cell.recipe]
        return space_under(asked.study.protocol, cell.method, method, cell.dataset, recipe)

    return look_up


def measured(
    asked: Asked,
    ready: Ready,
    plans: list[CellPlan],
    engine: Engine,
    looks: Sequence[FirstLook],
) -> dict[str, JobSeconds]:
    """Return :func:`expected_seconds`, once as many jobs share a GPU as pay.

    How many do is measured too, where the command does not say it: not for work that ends within a
    minute with as many as the CPUs allow, before that has paid. For this to be known every cell
    must have taken its first step just now, because ``looks`` say whether all jobs fit together.
    """
    left = [item for item in plans if item.jobs_left]
    training = [item.cell for item in left if item.cell.trains]
    ray = asked.options.engine == "ray"
    said = asked.options.gpus_per_job if ray else asked.options.jobs
    if ready.device == "cpu" or said or not training:
        return expected_seconds(asked, ready, plans, engine)
    from benchmark.running.sharing import fit_together

    overhead = {item.cell.id: JobSeconds(*[OVERHEAD_S] * 3) for item in left}
    short = at_most(plans, overhead, engine.capacity) <= SHORT_S
    if short and not ray:
        cells = sum(not item.cell.repeat for item in left)
        short = fit_together(looks, cells, engine.capacity // len(ready.devices))
    if short:
        seconds = expected_seconds(asked, ready, plans, engine)
        known = all(item.cell.id in seconds for item in left)
        if known and at_most(plans, seconds, engine.capacity) <= SHORT_S:
            return seconds
    _share_cards(asked, ready, *_to_measure(training, looks), engine)
    return expected_seconds(asked, ready, plans, engine)


def _to_measure(cells: list[CellKey], looks: Sequence[FirstLook]) -> tuple[CellKey, int]:
    """Return of which cell it is measured how many jobs pay, and the memory a job takes at least.

    It is the one that took most memory in its first steps. One that failed in them would show
    nothing; one that has begun before is known by none.
    """
    seen = {look.cell: look for look in looks}
    took = {cell.id: seen[cell.id].memory_mb for cell in cells if cell.id in seen}
    failed = {look.cell for look in looks if look.failed or look.problem}
    best = max(cells, key=lambda cell: (cell.id not in failed, took.get(cell.id, 0)))
    return best, max((look.memory_mb for look in looks), default=0)


def _share_cards(asked: Asked, ready: Ready, cell: CellKey, memory_mb: int, engine: Engine) -> None:
    """Let as many jobs share a GPU as pay, by trainings of ``cell``; say it where none succeeds."""
    from benchmark.engines.local import LocalEngine
    from benchmark.running.sharing import pays_here, share

    job = first_job(asked, ready)(cell)
    if isinstance(engine, LocalEngine):
        if not share(engine, job, len(ready.devices), memory_mb):
            say(
                Console(),
                f"how many jobs pay on a GPU is not known: {cell.row} on {cell.dataset} fails "
                "while it is measured. One runs on each; --jobs N runs N together",
            )
        return
    from benchmark.engines.ray_cluster import RayEngine

    assert isinstance(engine, RayEngine)
    engine.share_cards(partial(pays_here, memory_mb=memory_mb), job)


def expected_seconds(
    asked: Asked, ready: Ready, plans: list[CellPlan], engine: Engine
) -> dict[str, JobSeconds]:
    """Return the seconds of a job by cell id, see :func:`benchmark.running.expected.expected`."""
    sizes = partial(sizes_of, asked.study, space_of=space_of(asked))
    return expected(plans, sizes, job_maker(asked, ready), engine)
