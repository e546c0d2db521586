"""Python's module search path without the current folder, unless `PYTHONPATH` names it.

A `json.py` beside somebody's clips must not run because a command was started there. Python itself
puts the current folder first for `python -m` and `python -c`. This file imports nothing that such a
folder could hold.
"""

import os
import sys


def without_current_folder() -> list[str]:
    """`sys.path` without the current folder.

    A folder that `PYTHONPATH` names stays. A checkout that is used without being installed comes
    last, so that it hides no other package.

    Returns:
        The entries in their order.
    """
    checkout = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120 - no import
    entries = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    python_path = {os.path.realpath(entry) for entry in entries}
    try:
        current_folder = os.path.realpath(os.getcwd())  # noqa: PTH109 - no import
    except OSError:  # it was deleted
        current_folder = ""
    retained = [
        e
        for e in sys.path
        if e and (os.path.realpath(e) != current_folder or current_folder in python_path)
    ]
    return retained if checkout in retained else [*retained, checkout]
