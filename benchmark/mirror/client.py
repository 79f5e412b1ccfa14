"""The way to MLflow: the only file that imports mlflow."""

from __future__ import annotations

import logging
import os
import platform
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from benchmark.study.addresses import address_of

SETTINGS = {
    # Seven retries of two minutes each, the default, would hang on a dead server for a quarter
    # of an hour; what is not delivered is not lost, so giving up early costs nothing.
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
OLD_S = 3600.0  # a database begun so long ago was left by a kill: it takes seconds


class Connection(NamedTuple):
    """MLflow's client of one store, its entities, and what it raises where it refuses."""

    client: Any
    entities: Any
    refused: type[Exception]


def connect(uri: str) -> Connection:
    """Return a client of the server or database at ``uri``; it is not asked anything yet."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)  # read by MLflow on import
    import mlflow.entities
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    # What they would say about a dead server or a new database is said in one line, or not at all.
    for name in ("mlflow", "alembic", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    return Connection(client, mlflow.entities, MlflowException)


def create_database(path: Path) -> None:
    """Create an empty database of MLflow's, unless another study makes it at the same time.

    It is made aside and appears complete: MLflow takes seconds for it, and could never open one
    whose making was interrupted.
    """
    for left in path.parent.glob(f".{path.name}.*"):
        if left.stat().st_mtime < time.time() - OLD_S:
            left.unlink(missing_ok=True)
    part = path.with_name(f".{path.name}.{platform.node()}.{os.getpid()}.part")
    connect(address_of(part)).client.delete_experiment("0")  # MLflow's empty "Default"
    with suppress(OSError):  # where it is there by now it has the runs of another study
        os.link(part, path)
    if not path.is_file():  # the file system has no links
        part.replace(path)
    part.unlink(missing_ok=True)
