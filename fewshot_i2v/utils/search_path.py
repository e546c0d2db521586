"""Where Python looks for modules: never in the current folder unless it was told to.

A `json.py` that lies beside somebody's clips must not be run because a command was started there.
Python itself puts the current folder first for `python -m` and `python -c`. This file imports
nothing that such a folder could hold.
"""

import os
import sys


def without_current_folder() -> list[str]:
    """`sys.path` without the current folder.

    A folder that `PYTHONPATH` names is kept. A checkout that is used where it lies, without being
    installed, comes last, where it stands before nothing.

    Returns:
        The entries in their order.
    """
    home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))  # noqa: PTH100, PTH120 - no import
    asked = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    named = {os.path.realpath(entry) for entry in asked}
    try:
        here = os.path.realpath(os.getcwd())  # noqa: PTH109 - no import
    except OSError:  # it was deleted
        here = ""
    kept = [e for e in sys.path if e and (os.path.realpath(e) != here or here in named)]
    return kept if home in kept else [*kept, home]
