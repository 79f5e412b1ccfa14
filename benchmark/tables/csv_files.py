"""Frames as CSV, which spreadsheets and pandas read as what was in them."""

from __future__ import annotations

import pandas as pd
from pandas.api.types import is_numeric_dtype

from protocols.names import to_field


def to_csv(frame: pd.DataFrame) -> bytes:
    r"""Return ``frame`` as CSV: shortest floats that read back the same, ``\n`` line ends.

    Text is written by :func:`protocols.names.to_field`, so that it comes back as text.
    """
    text = {
        str(name): column.map(lambda value: to_field(value) if isinstance(value, str) else value)
        for name, column in frame.items()
        if not is_numeric_dtype(column)
    }
    return frame.assign(**text).to_csv(index=False, lineterminator="\n").encode()
