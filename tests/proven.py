"""Hand-made records that prove their place."""

from dataclasses import replace

from benchmark.study import places, records


def proven(record):
    """Return ``record`` with the id that its content asks for."""
    return replace(record, id=places.id_of(record))


def put(study, cell, record):
    """Write ``record`` where it belongs and return it as it was written."""
    found = proven(record)
    records.write(study.record_path(cell, found), found)
    return found
