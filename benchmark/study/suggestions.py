"""The next hyperparameter setting of a cell: the only file that imports optuna.

A suggestion is a pure function of the cell, the trial's number and the finished trials, in
order. So it does not depend on how many workers there were, nor on a restart in between.
"""

from __future__ import annotations

import itertools
import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from benchmark.study.addresses import address_of, without_password
from benchmark.study.own_id import own_id
from benchmark.study.records import TrialRecord
from benchmark.study.seeds import seed
from benchmark.study.spread import BLOCK, setting, spread
from protocols.errors import InvalidInputError, StoreError
from protocols.protocol import SearchRule
from protocols.space import (
    Choice,
    Hyperparameter,
    Integer,
    Real,
    Settings,
    Space,
    defaults,
    place,
    size,
)

# Optuna's warnings are for people who call it themselves.
optuna.logging.set_verbosity(optuna.logging.ERROR)
_BESIDE = 0.01  # of a range: how far beside a tried setting another one is looked for at first
_BEST = 5
_DAMAGED = re.compile("not a database|malformed")  # as SQLite says it
_REBUILT = "delete search.db, it is rebuilt"


def suggest(cell: str, rule: SearchRule, space: Space, trials: Sequence[TrialRecord]) -> Settings:
    """Return the setting of trial ``len(trials)``; trial 0 is the authors' defaults.

    Until the sampler begins to model, settings are points of one scrambled Sobol sequence of the
    cell, in its order. No setting is drawn twice (see :func:`protocols.space.place`): where the
    sampler offers one that was tried, an untried one beside it is taken.

    Raises:
        InvalidInputError: every setting of the space has been tried.
    """
    if not trials:
        return defaults(space)
    tried = {place(space, trial.settings) for trial in trials}
    if len(tried) >= size(space):
        raise InvalidInputError(f"all {size(space)} settings of {sorted(space)} have been tried")
    if rule.sampler != "random" and len(trials) < rule.startup_trials:
        offered = spread(cell, space)
    else:
        number = seed(cell, "search", len(trials))
        offered = _beside(number, space, _ask(number, rule, space, trials))
    return next(settings for settings in offered if place(space, settings) not in tried)


def _beside(number: int, space: Space, settings: Settings) -> Iterator[Settings]:
    """Yield ``settings``, then others drawn around them, from further and further away."""
    yield settings
    rng = np.random.default_rng(number)
    middle = np.array([parameter.share(settings[name]) for name, parameter in space.items()])
    for draw in itertools.count():
        reach = min(1.0, _BESIDE * 2 ** (draw // BLOCK))
        shares = middle + reach * rng.uniform(-1, 1, len(space))
        inside = 1 - np.abs(1 - np.abs(shares))  # reflected at the bounds
        yield setting(space, np.minimum(inside, np.nextafter(1, 0)))


@dataclass(frozen=True)
class Shown:
    """What Optuna's database says of a cell's search beside its settings and values.

    Attributes:
        name: what it is called there.
        metric: what a trial's value is: the name of its axis.
        about: the search's place in the grid, its rules and its choice.
        written: when each trial was recorded, in seconds since 1970.
    """

    name: str
    metric: str
    about: dict[str, Any]
    written: Sequence[float]


def storage_of(out: Path) -> str:
    """Return ``OPTUNA_STORAGE``, which Optuna's own commands read too, else a file in ``out``."""
    return os.environ.get("OPTUNA_STORAGE") or address_of(out / "search.db")


def name_in_storage(out: Path, cell: str, rules: str) -> str:
    """Return what a cell's search is called in Optuna's database.

    In a storage that others may write to it says whose study it is: equal cells of two folders
    would overwrite each other.
    """
    whose = f" {own_id(out)}" if os.environ.get("OPTUNA_STORAGE") else ""
    return f"{cell} [{rules}]{whose}"


def export(storage: str, shown: Shown, space: Space, trials: Sequence[TrialRecord]) -> None:
    """Write a cell's finished trials to an Optuna database, for its dashboard and plots.

    The database is a copy: trials that it lacks are added, other trials are written anew, and so
    are those that it has otherwise, as earlier versions wrote them.

    Raises:
        StoreError: the database cannot be reached or refuses; the message holds no password.
    """
    try:
        with _opened(storage) as database:
            pairs = zip(trials, shown.written, strict=True)
            _export(database, shown, [_finished(space, *pair) for pair in pairs])
    # Broad: what a database driver raises is its own; the records are safe.
    except Exception as error:
        reason = str(error.__cause__ or error).strip().partition("\n")[0][:200]
        if _DAMAGED.search(reason) and not os.environ.get("OPTUNA_STORAGE"):
            reason += f"; {_REBUILT}"
        where = without_password(storage)
        raise StoreError(f"Optuna's database at {where} is behind ({reason})") from error


@contextmanager
def _opened(storage: str) -> Iterator[RDBStorage]:
    """Open a database and close it; a server that does not answer is given up after seconds."""
    waits = {"connect_timeout": 10} if storage.startswith("postgresql") else {"timeout": 10}
    connection = {} if storage.startswith("mysql") else {"connect_args": waits}
    engine = {**connection, "pool_pre_ping": True}
    database = RDBStorage(storage, engine_kwargs=engine, skip_compatibility_check=True)
    try:
        _check_version(database)
        yield database
    finally:
        database.remove_session()
        database.engine.dispose()


def _check_version(database: RDBStorage) -> None:
    """Raise StoreError with what can be done where a database is of another version of Optuna."""
    version = database.get_current_version()
    if version == database.get_head_version():
        return
    older = version in database.get_all_versions()
    if not os.environ.get("OPTUNA_STORAGE"):
        remedy = _REBUILT
    elif older:
        remedy = 'upgrade it: optuna storage upgrade --storage "$OPTUNA_STORAGE"'
    else:
        remedy = "install a later one, or set OPTUNA_STORAGE to another database"
    raise StoreError(
        f"it is of {'an older' if older else 'a later'} Optuna than {optuna.__version__}; {remedy}"
    )


def _export(storage: RDBStorage, shown: Shown, trials: list[FrozenTrial]) -> None:
    name, common = shown.name, 0
    if name in optuna.get_all_study_names(storage=storage):
        held = optuna.load_study(study_name=name, storage=storage).trials
        # A trial that was lost and is done again has another value under the same id. Times are
        # not compared: not every database keeps parts of a second.
        known, wanted = ([(t.user_attrs, t.state, t.values) for t in s] for s in (held, trials))
        common = min(len(known), len(wanted))
        if known[:common] != wanted[:common]:
            optuna.delete_study(study_name=name, storage=storage)
            common = 0
    study = optuna.create_study(
        study_name=name, storage=storage, direction="maximize", load_if_exists=True
    )
    study.add_trials(trials[common:])
    known_attrs = study.user_attrs
    for key, value in shown.about.items():
        if key not in known_attrs or known_attrs[key] != value:
            study.set_user_attr(key, value)
    if study.metric_names != [shown.metric]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names([shown.metric])


def importances(space: Space, trials: Sequence[TrialRecord]) -> dict[str, float]:
    """Return each hyperparameter's importance for reaching the best trials, largest first.

    PED-ANOVA: how unlike all trials the best ones are in a hyperparameter. The best are a tenth
    of the trials, but at least five, below which the method's authors advise against it. Shares
    add up to 1.

    Source: Watanabe et al., "PED-ANOVA", IJCAI 2023, as Optuna has it.
    """
    study = optuna.create_study(direction="maximize")
    study.add_trials([_frozen(space, trial) for trial in trials])
    evaluator = PedAnovaImportanceEvaluator(target_quantile=max(0.1, _BEST / len(trials)))
    # In a fixed order: without names Optuna goes through a set, in any order.
    found = get_param_importances(study, evaluator=evaluator, params=sorted(space))
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _ask(number: int, rule: SearchRule, space: Space, trials: Sequence[TrialRecord]) -> Settings:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = _sampler(rule, number)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.add_trials([_frozen(space, trial) for trial in trials])
        asked = study.ask(_distributions(space)).params
    return {name: parameter.accept(asked[name]) for name, parameter in space.items()}


def _sampler(rule: SearchRule, number: int) -> BaseSampler:
    """Return a sampler seeded for one trial only; it is never used for a second one."""
    number %= 2**32
    if rule.sampler == "random":
        return RandomSampler(seed=number)
    if rule.sampler == "tpe":
        return TPESampler(seed=number, n_startup_trials=0, multivariate=True)
    return GPSampler(seed=number, n_startup_trials=0, deterministic_objective=False)


def _frozen(space: Space, trial: TrialRecord) -> FrozenTrial:
    """Return a trial as the sampler sees it: a failed one has a score, and it learns from that."""
    return create_trial(
        params=dict(trial.settings),
        distributions=_distributions(space),
        value=trial.value,
        state=TrialState.COMPLETE,
    )


def _finished(space: Space, trial: TrialRecord, written: float) -> FrozenTrial:
    """Return a trial as people see it: a failed one has no value, for none was measured."""
    done = trial.status == "done"
    folds = {f"fold_{k}": value for k, value in enumerate(trial.folds) if value is not None}
    shown = create_trial(
        params=dict(trial.settings),
        distributions=_distributions(space),
        value=trial.value if done else None,
        state=TrialState.COMPLETE if done else TrialState.FAIL,
        user_attrs={"record": trial.id, "status": trial.status, "reason": trial.reason, **folds},
    )
    start, end = map(datetime.fromtimestamp, _when(trial, written))
    shown.datetime_start, shown.datetime_complete = start, end
    return shown


def _when(trial: TrialRecord, written: float) -> tuple[float, float]:
    """Return when a trial began and ended, in seconds since 1970.

    Records of earlier versions do not say it, nor do those whose jobs did not live to: they ended
    when they were written.
    """
    if spans := trial.measured.get("spans"):
        return min(span["start"] for span in spans), max(span["end"] for span in spans)
    return written - trial.measured.get("seconds", 0.0), written


def _distributions(space: Space) -> dict[str, BaseDistribution]:
    return {name: _distribution(parameter) for name, parameter in space.items()}


def _distribution(parameter: Hyperparameter[Any]) -> BaseDistribution:
    if isinstance(parameter, Real):
        return FloatDistribution(parameter.low, parameter.high, log=parameter.log)
    if isinstance(parameter, Integer):
        return IntDistribution(parameter.low, parameter.high, log=parameter.log)
    if isinstance(parameter, Choice):
        return CategoricalDistribution(parameter.options)
    raise TypeError(f"{type(parameter).__name__}: use Real, Integer or Choice")
