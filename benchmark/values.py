"""What is written behind an option, as a value; what it cannot be is refused with an example."""

from __future__ import annotations

import argparse
import re
import sys

from protocols.study_file import typed_value


def names(text: str) -> tuple[str, ...]:
    """Return the names in ``a,b``, each once."""
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    if not names:
        raise argparse.ArgumentTypeError(f"{text!r}: expected names with commas between")
    return names


def points(text: str) -> float:
    """Return points of a percentage, above 0."""
    return _above_zero(text, 100, "points above 0, like 0.5")


def hours(text: str) -> float:
    """Return hours above 0."""
    return _above_zero(text, sys.float_info.max, "hours above 0, like 3.9")


def _above_zero(text: str, most: float, expected: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= most:
        raise argparse.ArgumentTypeError(f"{text!r}: expected {expected}")
    return number


def positive(text: str) -> int:
    """Return a whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number of at least 1")
    return int(text)


def price(text: str) -> tuple[float, str]:
    """Return an amount above 0 and its currency, letters or one sign."""
    amount = r"(?P<amount>[0-9]{1,9}(\.[0-9]{1,6})?)"
    currency = r"(?P<currency>[A-Za-z]{1,8}|[$€£¥₹₩₽₺₴₪₫₦฿])"
    for form in (rf"{amount} ?{currency}", rf"{currency} ?{amount}"):
        found = re.fullmatch(form, text.strip())
        if found and float(found["amount"]):
            return float(found["amount"]), found["currency"]
    raise argparse.ArgumentTypeError(f'{text!r}: expected an amount and its currency: "0.80 EUR"')


def change(text: str) -> tuple[str, object]:
    """Return key and value of ``KEY=VALUE``."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise argparse.ArgumentTypeError(f"{text!r}: expected KEY=VALUE, like image.crop_px=96")
    return key.strip(), typed_value(value.strip())


def share(text: str) -> float:
    """Return a share of a GPU, or a number of them."""
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not (0 < share <= 1 or (share > 1 and share.is_integer())):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a share of a GPU, or a whole number")
    return share
