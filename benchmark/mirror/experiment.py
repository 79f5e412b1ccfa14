"""The experiment of a study in MLflow: found, restored or made."""

from __future__ import annotations

import re

from benchmark.mirror.client import Connection
from benchmark.study.addresses import address_of
from benchmark.study.folder import Study
from protocols.errors import StoreError

_KIND, _TRAINING = "mlflow.experimentKind", "custom_model_development"  # the view it opens in


def own_database(study: Study) -> str:
    """Return the address of the database in the output folder."""
    return address_of(study.out.resolve() / "mlflow.db")


def open_experiment(study: Study, uri: str, connection: Connection) -> str:
    """Return the id of the experiment of the study's rules, which all studies under them share.

    Raises:
        StoreError: the database in the output folder was made when the folder lay elsewhere.
    """
    client, refused, protocol = connection.client, connection.refused, study.protocol
    name = f"{protocol.name} v{protocol.version} {protocol.rules_hash()}"
    # A server has its own place for artifacts; a database's would be the current directory.
    own = (study.out / "mlartifacts").resolve().as_uri()
    location = None if re.match("https?:|databricks", uri) else own
    found = client.get_experiment_by_name(name)
    if found is None:
        try:
            made = str(client.create_experiment(name, location))
        except refused:
            found = client.get_experiment_by_name(name)
            if found is None:
                raise
            return str(found.experiment_id)  # of another study, made at the same time
        client.set_experiment_tag(made, _KIND, _TRAINING)
        return made
    if found.lifecycle_stage == "deleted":
        _restore(found.experiment_id, connection)
    if uri == own_database(study) and found.artifact_location != location:
        raise StoreError("made in another folder; delete mlflow.db, it is rebuilt")
    return str(found.experiment_id)


def _restore(experiment: str, connection: Connection) -> None:
    try:
        connection.client.restore_experiment(experiment)
    except connection.refused:  # another study may have done so at the same time
        if connection.client.get_experiment(experiment).lifecycle_stage == "deleted":
            raise
