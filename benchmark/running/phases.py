"""When the phases of a cell's trainings begin, and how early a training can end: before any starts.

Comes in: methods, recipes and the pace. Goes out: a timetable for the plan, or a refusal.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmark.running.setup import Asked
from benchmark.study.folder import CellKey
from benchmark.study.grid import CellPlan
from protocols.errors import InvalidInputError
from protocols.method import Method
from protocols.narrowing import space_under
from protocols.plugin_code import told
from protocols.protocol import Pace
from protocols.recipe import Recipe, Schedule
from protocols.recipe_search import of_method, recipe_of
from protocols.space import Settings, Space, declared, defaults

Range = tuple[int, int]


@dataclass(frozen=True)
class Timetable:
    """What is known of a cell's trainings before they start.

    Attributes:
        begins: the first step of each phase, lowest and highest over the settings that a search
            may try; for averaging only the latest, since patience can but bring it forward.
        earliest_stop: the step at which a training that never improves ends, likewise.
        steps: the budget.
    """

    begins: dict[str, Range]
    earliest_stop: Range
    steps: int


def timetable(method: type[Method], space: Space, recipe: Recipe, pace: Pace) -> Timetable:
    """Return when phases begin, over the corners of ``space``.

    Raises:
        InvalidInputError: a phase that some setting lets begin too late for the budget.
    """
    with told("the phases", method):
        courses = {
            (
                recipe_of(recipe, settings),
                tuple(method.phases(of_method(settings), pace.max_steps, pace.steps_per_epoch)),
            )
            for settings in _corners(method, space)
        }
    schedules = [Schedule(own, pace, phases) for own, phases in sorted(courses, key=str)]
    begins: dict[str, list[int]] = {}
    for schedule in schedules:
        for phase in schedule.phases:
            begins.setdefault(phase.name, []).append(phase.begins)
        if schedule.averaging_at_latest is not None:
            begins.setdefault("averaging", []).append(schedule.averaging_at_latest)
    return Timetable(
        begins={name: (min(steps), max(steps)) for name, steps in begins.items()},
        earliest_stop=(
            min(schedule.earliest_stop for schedule in schedules),
            max(schedule.earliest_stop for schedule in schedules),
        ),
        steps=pace.max_steps,
    )


def timetables(asked: Asked, plans: Sequence[CellPlan]) -> list[tuple[CellKey, Timetable]]:
    """Return the timetable of each cell that still has something to train.

    Raises:
        InvalidInputError: a cell whose budget ends before one of its phases begins.
    """
    protocol, found = asked.study.protocol, []
    for cell in (item.cell for item in plans if item.jobs_left and item.cell.trains):
        method: type[Method] = asked.registry.load("method", cell.method)
        recipe = asked.recipes[cell.recipe]
        space = space_under(protocol, cell.method, method, cell.dataset, recipe)
        pace = protocol.on(cell.dataset).pace
        try:
            found.append((cell, timetable(method, space, recipe, pace)))
        except InvalidInputError as error:
            raise InvalidInputError(f"{cell.place}: {error}") from error
    return found


def _corners(method: type[Method], space: Space) -> Iterator[Settings]:
    """Yield every combination of bounds and options, as full settings.

    A phase that moves one way with each hyperparameter is at its earliest and latest in these.
    """
    fixed = defaults(declared(method))
    for values in itertools.product(*(parameter.corners() for parameter in space.values())):
        yield {**fixed, **dict(zip(space, values, strict=True))}
