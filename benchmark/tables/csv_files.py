"""Frames as CSV, which spreadsheets and pandas read as what was in them."""

from __future__ import annotations

from typing import Any

import pandas as pd
from pandas.api.types import is_numeric_dtype

from protocols.names import to_field


def to_csv(frame: pd.DataFrame) -> bytes:
    r"""Return ``frame`` as CSV: shortest floats that read back the same, ``\n`` line ends.

    Text is written by :func:`protocols.names.to_field`, so that it comes back as text.
    """
    columns = {str(name): column for name, column in frame.items() if not is_numeric_dtype(column)}
    text = {name: _as_text(column) for name, column in columns.items()}
    return frame.assign(**text).to_csv(index=False, lineterminator="\n").encode()


def _as_text(column: pd.Series[Any]) -> pd.Series[Any]:
    """Return a column with its texts as fields; each of them is looked at once."""
    fields = {text: to_field(text) for text in column.unique() if isinstance(text, str)}
    if all(text == field for text, field in fields.items()):
        return column
    return column.map(lambda value: fields.get(value, value))
