"""Where the package keeps files of its own on this machine."""

from __future__ import annotations

import os
from pathlib import Path


def default_cache() -> Path:
    """The folder for files that can be made again, such as decoded clips.

    The first of these that is set: `FEWSHOT_I2V_HOME`; `XDG_CACHE_HOME`/fewshot-i2v; the cache
    folder of the platform (`~/.cache/fewshot-i2v` on Linux). An empty variable counts as not set,
    and a relative `XDG_CACHE_HOME` is ignored, as the XDG rules ask.

    Returns:
        The folder, absolute, `~` expanded. It is not created.
    """
    home = os.environ.get("FEWSHOT_I2V_HOME")
    if home:
        return Path(home).expanduser().absolute()
    xdg = os.environ.get("XDG_CACHE_HOME")
    if xdg and Path(xdg).is_absolute():
        return Path(xdg) / "fewshot-i2v"
    # imported here: most commands never ask for the platform's folder
    import platformdirs

    return Path(platformdirs.user_cache_dir("fewshot-i2v", appauthor=False))
