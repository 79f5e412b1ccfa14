"""A file's code has one digest under every Python that the program runs on."""

import shutil
import subprocess
from pathlib import Path

import pytest

from protocols import source_code

SAMPLE = '''"""A docstring."""
import math

def words(names, width):
    """Return a line."""
    plain = f"{len(names)} of {width:.2f}, {width!r}"
    quoted = f"{', '.join(names)}: it's {math.pi:>{'10' if width else '20'}} \\U0001FAE9"
    return plain + quoted + f"{f'{width}'!s:>5}"
'''
CODE = r"""import math

def words(names, width):
    plain = f'{len(names)} of {width:.2f}, {width!r}'
    quoted = fstring((', '.join(names), -1, None), ": it's ", FORMATTED, ' \U0001fae9')
    return plain + quoted + fstring((f'{width}', 115, f'>5'))""".replace(
    "FORMATTED", "(math.pi, -1, fstring('>', ('10' if width else '20', -1, None)))"
)
DIGEST = "372bc780a61f"
OTHERS = [path for minor in (11, 12, 13) if (path := shutil.which(f"python3.{minor}"))]
ELSEWHERE = """import importlib.util, sys
spec = importlib.util.spec_from_file_location("source_code", sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(module.digest(sys.argv[2], "method", "protocols.methods", lambda name: None))
"""


def code(source):
    return source_code._code(source, "method", "protocols.methods")[0]


def test_what_an_f_string_quotes_is_written_one_way():
    """Python 3.12 quotes otherwise than 3.11 does, and knows more signs."""
    assert code(SAMPLE) == CODE
    found = source_code.digest(SAMPLE, "method", "protocols.methods", lambda name: None)
    assert found == DIGEST


@pytest.mark.parametrize("python", OTHERS)
def test_other_versions_find_the_same_digest(python):
    words = (python, "-c", ELSEWHERE, str(Path(source_code.__file__)), SAMPLE)
    found = subprocess.run(words, capture_output=True, text=True, timeout=60)
    if "not found" in found.stderr:
        pytest.skip(f"{python} is a link to a version that is not installed")
    assert found.stdout.strip() == DIGEST, found.stderr


def test_every_part_of_an_f_string_counts():
    parts = ("f\"{a['b']} c\"", "f\"{a['b']!r} c\"", "f\"{a['b']:>3} c\"", "f\"{a['b']} d\"")
    assert len({code(f"x = {part}") for part in parts}) == len(parts)
