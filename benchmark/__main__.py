"""``python -m benchmark``."""

import gc
import sys

from benchmark.cli import main

if __name__ == "__main__":
    code = main()
    gc.freeze()  # or the interpreter's last collection looks through all of torch for a second
    sys.exit(code)
