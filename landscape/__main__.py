"""`python -m landscape JOB ...` is `landscape JOB ...`."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
