"""The next hyperparameter setting of a cell: the only file that imports optuna.

A suggestion is a pure function of the cell, the trial's number and the finished trials, in
order. So it does not depend on how many workers there were, nor on a restart in between.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.samplers import BaseSampler, GPSampler, QMCSampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from benchmark.study.records import TrialRecord
from benchmark.study.seeds import seed
from protocols.errors import StoreError
from protocols.protocol import SearchRule
from protocols.space import Choice, Hyperparameter, Integer, Real, Settings, Space, defaults

optuna.logging.set_verbosity(optuna.logging.WARNING)
_ATTEMPTS = 10
_BEST = 5


def suggest(cell: str, rule: SearchRule, space: Space, trials: Sequence[TrialRecord]) -> Settings:
    """Return the setting of trial ``len(trials)``; trial 0 is the authors' defaults.

    A setting that was tried before is drawn again a few times, then accepted: a small space
    may have no other.
    """
    if not trials:
        return defaults(space)
    tried = [trial.settings for trial in trials]
    found: Settings = {}
    for attempt in range(_ATTEMPTS):
        found = _ask(seed(cell, "search", len(trials), attempt), rule, space, trials)
        if found not in tried:
            break
    return found


def storage_of(out: Path) -> str:
    """Return ``OPTUNA_STORAGE``, which Optuna's own commands read too, else a file in ``out``."""
    return os.environ.get("OPTUNA_STORAGE") or f"sqlite:///{out / 'search.db'}"


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
        raise StoreError(f"Optuna's database at {_shown(storage)} is behind ({reason})") from error


@contextmanager
def _opened(storage: str) -> Iterator[RDBStorage]:
    """Open a database and close it; a server that does not answer is given up after seconds."""
    waits = {"connect_timeout": 10} if storage.startswith("postgresql") else {"timeout": 10}
    connection = {} if storage.startswith("mysql") else {"connect_args": waits}
    database = RDBStorage(storage, engine_kwargs={**connection, "pool_pre_ping": True})
    try:
        yield database
    finally:
        database.remove_session()
        database.engine.dispose()


def _export(storage: RDBStorage, name: str, trials: list[FrozenTrial]) -> None:
    if name in optuna.get_all_study_names(storage=storage):
        study = optuna.load_study(study_name=name, storage=storage)
        known, wanted = ([t.user_attrs.get("record") for t in s] for s in (study.trials, trials))
        common = min(len(known), len(wanted))
        if known[:common] == wanted[:common]:
            study.add_trials(trials[common:])
            return
        optuna.delete_study(study_name=name, storage=storage)
    study = optuna.create_study(study_name=name, storage=storage, direction="maximize")
    study.add_trials(trials)


def _shown(uri: str) -> str:
    return re.sub(r"//[^/@\s]*@", "//…@", uri)


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
    # By name: without a list Optuna's order is that of a set.
    found = get_param_importances(study, evaluator=evaluator, params=sorted(space))
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _ask(number: int, rule: SearchRule, space: Space, trials: Sequence[TrialRecord]) -> Settings:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        sampler = _sampler(rule, len(trials), number)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.add_trials([_frozen(space, trial) for trial in trials])
        asked = study.ask(_distributions(space)).params
    return {name: parameter.accept(asked[name]) for name, parameter in space.items()}


def _sampler(rule: SearchRule, done: int, number: int) -> BaseSampler:
    """Return a sampler seeded for one trial only; it is never used for a second one."""
    number %= 2**32
    if rule.sampler == "random":
        return RandomSampler(seed=number)
    if rule.sampler == "tpe":
        return TPESampler(seed=number, n_startup_trials=rule.startup_trials, multivariate=True)
    if done < rule.startup_trials:
        return QMCSampler(seed=number)
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
