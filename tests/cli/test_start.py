"""How the process of a command starts: without looking for garbage among its imports."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import gc, sys
gc.collect()
thresholds = gc.get_threshold()
from fewshot_i2v.cli._start import prepare_process
from fewshot_i2v.utils.garbage import START_OBJECTS, leave_garbage
prepare_process()
before = gc.get_stats()
assert gc.isenabled()
import numpy, pydantic, yaml
assert [s["collections"] for s in gc.get_stats()] == [s["collections"] for s in before]
assert gc.get_freeze_count() == 0

cycle = []
cycle.append(cycle)
del cycle
objects = [[] for _ in range(START_OBJECTS + 1)]
assert gc.get_freeze_count() > START_OBJECTS // 2
assert (gc.get_threshold(), gc.callbacks) == (thresholds, [])
# the cycle is not among what stays
assert sum(s["collected"] for s in gc.get_stats()) > sum(s["collected"] for s in before)
objects = [[] for _ in range(10 * thresholds[0])]
assert gc.get_stats()[0]["collections"] > before[0]["collections"] + 1
count = gc.get_freeze_count()
leave_garbage()
assert gc.get_freeze_count() > count + 9 * thresholds[0]
"""


def test_garbage_is_looked_for_after_the_imports() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
