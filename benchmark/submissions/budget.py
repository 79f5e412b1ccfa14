"""Whether a row kept to its protocol's budget: trials, steps, images, seconds, and one machine."""

from __future__ import annotations

from collections.abc import Iterator

from benchmark.submissions.identity import Pace
from benchmark.submissions.read import SubmittedRow
from benchmark.submissions.schema import Cell, Environment, Run
from benchmark.submissions.took import seconds_of
from protocols.space import Space, rebuilt, size

Problem = tuple[str, str]  # message, path below the results folder
_ROUNDED = 0.01  # seconds by which sums of rounded times may differ, for each fold
_CORES = 1024  # processors that one job may keep busy at once
_MACHINE_W = 20_000.0  # more than the packages of any machine draw
_CARD_W = 2_000.0  # more than any card draws
_LEAST_BUSY = 0.1  # of the seconds by the clock a processor works, beside others a third
_LATE = 1.01  # times the protocol's timeout: until a job that is out of time is gone


def space_of(cell: Cell) -> Space:
    """Return the space that a row says it searched; InvalidInputError where it is none."""
    return rebuilt({name: bounds.model_dump() for name, bounds in cell.space.items()})


def is_searched(cell: Cell) -> bool:
    """Return whether the protocol searches this method's settings."""
    return bool(cell.space) and cell.made_of.rules.params == "search"


def search_fault(row: SubmittedRow, cell: Cell, space: Space) -> str:
    """Return why the number of trials is not the protocol's (check 6), "" if it is."""
    rules = cell.made_of.rules
    budget = rules.search.trials if is_searched(cell) else 0
    limit = rules.search.max_failures_in_a_row
    last = [trial.status for trial in row.trials[-limit:]]
    gave_up = len(last) == limit and set(last) == {"failed"}
    # a search never repeats a setting, so it may end there
    tried_all = len(row.trials) == size(space)
    if len(row.trials) > budget or (len(row.trials) < budget and not (gave_up or tried_all)):
        return f"{len(row.trials)} trials; the protocol has {budget}, the same for every method"
    return ""


def trial_faults(row: SubmittedRow, cell: Cell) -> Iterator[str]:
    """Yield trials that took longer than the protocol lets them, or no time at all."""
    rules = cell.made_of.rules
    longest = rules.folds * rules.timeout_s * _LATE
    for trial in row.trials:
        if trial.seconds > longest:
            yield f"trial {trial.number}: {trial.seconds} s; it is stopped after {longest:.0f}"
        if trial.status == "done" and trial.seconds <= 0:
            yield f"trial {trial.number}: done in {trial.seconds} s; expected more than 0"


def pace_of(cell: Cell) -> Pace:
    """Return the budget of a training on the cell's dataset."""
    rules = cell.made_of.rules
    return rules.paces.get(cell.dataset, rules.pace)


def interval_of(cell: Cell) -> int:
    """Return how many steps validations are apart: the protocol's number, or the recipe's cycle."""
    pace, cycle = pace_of(cell), cell.made_of.recipe.cycle
    return 2 * cycle.half_epochs * pace.steps_per_epoch if cycle else pace.validate_every


def run_faults(run: Run, cell: Cell) -> Iterator[str]:
    """Yield what a run spent beyond its budget, or says of its cost that cannot be true."""
    rules, recipe = cell.made_of.rules, cell.made_of.recipe
    pace, interval = pace_of(cell), interval_of(cell)
    steps = [step for step in run.best_steps if step is not None]
    for step in steps:
        if step > pace.max_steps:
            yield f"best step {step}; the protocol has {pace.max_steps}"
        elif step % interval and step != pace.max_steps and not recipe.averaging:
            yield f"best step {step}; validations are {interval} steps apart"
    trained = run.counts.get("images_trained", 0)
    most = rules.folds * pace.max_steps * rules.batch_size
    if trained > most:
        yield f"{trained} images trained; the protocol has {most}"
    own = run.counts.get("images_protocol", most)  # of as many steps; older rows do not say it
    if own > most:
        yield f"images_protocol {own}; the protocol has {most}"
    if most >= trained > own:
        yield f"{trained} images trained; its steps have {own} of the protocol's"
    if run.status == "done" and trained and (fault := _too_few(run, cell)):
        yield fault
    if (trained > 0) != (run.counts.get("parameters_trained", 0) > 0) and run.status == "done":
        yield "images_trained and parameters_trained: one of them is 0, expected both or neither"
    yield from _seconds(run, rules.folds, rules.timeout_s, trained)


def _too_few(run: Run, cell: Cell) -> str:
    """Return why a run that trained had fewer images than the steps that it made, "" if not.

    It made the steps up to the one that it kept, and those up to the first validation; under a
    budget of seconds that may be none. A step takes a batch, in a method's own batches an image.
    """
    timed = cell.rules.get("budget_s") is not None
    first = 0 if timed else min(interval_of(cell), pace_of(cell).max_steps)
    least = sum(max(step or 0, first) for step in run.best_steps)
    trained, batch = run.counts.get("images_trained", 0), cell.made_of.rules.batch_size
    own = run.counts.get("images_protocol")  # older rows do not say it
    if trained < least:
        return f"{trained} images trained in {least} steps or more"
    if own is not None and own < least * batch:
        return f"images_protocol {own}; {least} steps or more have {least * batch}"
    return ""


def _seconds(run: Run, folds: int, timeout: float, trained: int) -> Iterator[str]:
    if run.train_s > run.seconds + folds * _ROUNDED:
        yield f"train_s {run.train_s} above seconds {run.seconds}"
    longest = folds * timeout * _LATE
    if run.seconds > longest:
        yield f"{run.seconds} s; a run is stopped after {longest:.0f}"
    if run.status == "done" and (run.seconds <= 0 or (trained and run.train_s <= 0)):
        yield f"seconds {run.seconds}, train_s {run.train_s}: expected more than 0"


def cost_faults(row: SubmittedRow, cell: Cell) -> Iterator[str]:
    """Yield parts of machines and cards that are more than all of them, and joules beyond them."""
    took, folds = cell.took, cell.made_of.rules.folds
    if took is None:
        return
    rounded = folds * (len(row.trials) + len(row.runs)) * _ROUNDED
    seconds, whole = seconds_of(row), took.seconds + rounded
    if abs(took.seconds - seconds) > rounded:
        yield f"took {took.seconds} s; its trials and runs took {seconds:.2f}"
    for name, most in (("machine_s", whole), ("gpu_s", whole), ("cpu_s", _CORES * whole)):
        value = getattr(took, name)
        if value is not None and value > most:
            yield f"took {name} {value}; in {took.seconds} s of jobs there are at most {most:.2f}"
    if took.gpu_s and all(kind_of(run.environment) == "cpu" for run in row.runs.values()):
        yield f"took gpu_s {took.gpu_s}; its runs were on a cpu"
    machine = ("package_j", took.package_j, took.machine_s, _MACHINE_W)
    for name, joules, of, watts in (machine, ("gpu_j", took.gpu_j, took.gpu_s, _CARD_W)):
        if joules is not None and of is None:
            yield f"took {name} {joules} without the seconds in which they were counted"
        elif joules is not None and of is not None and joules > watts * (of + rounded):
            yield f"took {name} {joules} in {of} s: above {watts:.0f} W"


def looks(row: SubmittedRow) -> Iterator[str]:
    """Yield in a line each what is said of a row's cost and size that hardly any training has."""
    cell = row.cell
    if cell is None:
        return
    seconds, told = seconds_of(row), cell.took.cpu_s if cell.took else None
    if told is not None and told < _LEAST_BUSY * seconds:
        yield f"{row.place}: took cpu_s {told}, its trials and runs {seconds:.2f} s by the clock"
    each, folds = cell.rules.get("embedding_size"), cell.made_of.rules.folds
    shapes = {(run.embeddings_shape or [0, 0])[-1] for run in row.runs.values()} - {0}
    if not row.untrained and isinstance(each, int) and shapes - {folds * each}:
        met = " and ".join(map(str, sorted(shapes)))
        yield f"{row.place}: embeddings of {met} numbers; {folds} folds of {each} are usual"


def environment_faults(row: SubmittedRow) -> Iterator[Problem]:
    """Yield seeds of another torch, kind of device or network size than the row's first.

    What has trained is the same under a budget of steps: a method's phases have begun before it
    may stop. Under a budget of seconds a slower run may not have come so far.
    """
    first: dict[str, tuple[object, int]] = {}
    timed = row.cell is not None and row.cell.rules.get("budget_s") is not None
    same = ("parameters_deployed",) if timed else ("parameters_deployed", "parameters_trained")
    for seed, run in sorted(row.runs.items()):
        counts = run.counts if run.status == "done" else {}
        sizes = {name: counts[name] for name in same if name in counts}
        shape = {"embeddings_shape": run.embeddings_shape} if run.embeddings_shape else {}
        kinds = {"torch": run.environment.torch, "kind of device": kind_of(run.environment)}
        for name, value in (kinds | sizes | shape).items():
            expected, other = first.setdefault(name, (value, seed))
            if value != expected:
                message = f"{name} {value}, seed {other} has {expected}; a row has one"
                yield message, f"{row.place}/seed-{seed}.json"


def kind_of(environment: Environment) -> str:
    """Return the kind of device; rows of earlier versions say it in the device's name alone."""
    return environment.device_kind or ("cpu" if environment.device.startswith("cpu") else "cuda")
