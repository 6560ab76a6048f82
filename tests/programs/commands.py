"""Run under mpirun: several command lines one after another, in one start of Python and torch on every rank.

Argument: the command lines as JSON, a list of lists of words. The first that does not end well is the last.
"""

from __future__ import annotations

import json
import sys

from landscape import cli

for words in json.loads(sys.argv[1]):
    sys.argv[:] = ["landscape", *words]  # what records say they were made by
    if code := cli.main(words):
        sys.exit(code)
