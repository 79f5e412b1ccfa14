"""Why a tracking store could not be used, in one line, and what to do about it."""

from __future__ import annotations

import re
from importlib.metadata import version

from benchmark.study.addresses import without_password
from protocols.errors import StoreError

# What MLflow and Alembic, its migrations' library, say of a database of another version.
_OTHER_VERSION = re.compile("database schema|Can't locate revision")
_NO_FOLDERS = "MLFLOW_ALLOW_FILE_STORE"  # the setting it names when it refuses a folder
_DAMAGED = re.compile("not a database|malformed")  # as SQLite says it
# How MLflow names the answers 401 and 403 of a server.
_REFUSALS = {
    "UNAUTHENTICATED": "it asks who you are (HTTP 401)",
    "PERMISSION_DENIED": "it does not let you in with these credentials (HTTP 403)",
}
_CREDENTIALS = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
_REBUILT = "delete mlflow.db, it is rebuilt"


def reason_of(error: BaseException, uri: str, own: str) -> str:
    """Return what went wrong in one short line without passwords.

    A refused connection arrives in four wrappings that repeat the address: the innermost
    system error says it best.

    Args:
        error: what MLflow raised.
        uri: the store that was asked.
        own: the address of the database in the output folder, which is rebuilt when deleted.
    """
    if isinstance(error, StoreError):
        return str(error)
    if refusal := _REFUSALS.get(getattr(error, "error_code", "")):
        return f"{refusal}; set {_CREDENTIALS}"
    if _NO_FOLDERS in str(error):
        database = f"sqlite:///{re.sub('^file:(//)?', '', uri).rstrip('/')}.db"
        return (
            f"MLflow {version('mlflow')} keeps no runs in folders; unset MLFLOW_TRACKING_URI or "
            f"set it to a database, like {database}"
        )
    if _OTHER_VERSION.search(str(error)):
        return f"it is not of MLflow {version('mlflow')}, which is installed; {_remedy(uri, own)}"
    if uri == own and _DAMAGED.search(str(error)):
        return f"it is damaged; {_REBUILT}"
    chain = [error]
    while inner := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(inner)
    cause = next((e for e in reversed(chain) if isinstance(e, OSError)), error)
    text = without_password(str(cause)).strip().partition("\n")[0].partition(". ")[0]
    return f"{type(cause).__name__}: {text[:200]}"


def _remedy(uri: str, own: str) -> str:
    if uri == own:
        return _REBUILT
    return (
        'if it is older: python -m mlflow db upgrade "$MLFLOW_TRACKING_URI"; if it is newer: '
        "python -m pip install --upgrade mlflow; or set MLFLOW_TRACKING_URI to another one"
    )
