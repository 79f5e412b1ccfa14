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


def export(storage: str, name: str, space: Space, trials: Sequence[TrialRecord]) -> None:
    """Write a cell's finished trials to an Optuna database, for its dashboard and plots.

    The database is a copy: trials that it lacks are added, other trials are written anew.

    Raises:
        StoreError: the database cannot be reached or refuses; the message holds no password.
    """
    try:
        with _opened(storage) as database:
            _export(database, name, [_frozen(space, trial) for trial in trials])
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


def _export(storage: RDBStorage, name: str, trials: list[FrozenTrial]) -> None:
    if name in optuna.get_all_study_names(storage=storage):
        study = optuna.load_study(study_name=name, storage=storage)
        # A trial that was lost and is done again has another value under the same id.
        known, wanted = (
            [(t.user_attrs.get("record"), t.values) for t in s] for s in (study.trials, trials)
        )
        common = min(len(known), len(wanted))
        if known[:common] == wanted[:common]:
            study.add_trials(trials[common:])
            return
        optuna.delete_study(study_name=name, storage=storage)
    study = optuna.create_study(study_name=name, storage=storage, direction="maximize")
    study.add_trials(trials)


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
    return create_trial(
        params=dict(trial.settings),
        distributions=_distributions(space),
        value=trial.value,
        state=TrialState.COMPLETE,
        user_attrs={"record": trial.id, "status": trial.status, "reason": trial.reason},
    )


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
