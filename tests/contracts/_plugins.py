"""Methods that do not lie in the package's own folders, found as a user's would be.

* `dropped/` is a folder as FEWSHOT_I2V_PLUGINS names them.
* `other_package/` is what an installed package leaves behind: a module, and beside it the metadata
  with its entry point.
* Folders that FEWSHOT_I2V_PLUGINS names when the tests start are kept, so that the tests run over
  them too. One file is checked by `fewshot-i2v check-adapter` and `check-head`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_HERE = Path(__file__).parent
_VARIABLE = "FEWSHOT_I2V_PLUGINS"
_FOLDERS = os.pathsep.join(filter(None, [os.environ.get(_VARIABLE), str(_HERE / "dropped")]))


@contextmanager
def everything() -> Iterator[None]:
    """Methods from outside can be used by name inside the block, and are forgotten after it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(_VARIABLE, _FOLDERS)
        patch.syspath_prepend(_HERE / "other_package")
        yield
