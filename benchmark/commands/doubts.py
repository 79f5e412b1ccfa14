"""What a command that only reads says of records that it could not believe."""

from __future__ import annotations

import sys

from benchmark.study.aside import in_words
from benchmark.study.folder import Study


def say_doubts(study: Study) -> None:
    """Print one line to standard error where records that were read are not used."""
    if study.doubts:
        places = {str(path.relative_to(study.out)): why for path, why in study.doubts.items()}
        print(f"shown as missing: {in_words(places)}; the next run redoes them", file=sys.stderr)
