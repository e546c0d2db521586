"""learn2learn for the tests marked with it."""

from __future__ import annotations

import os
from typing import Any

import pytest

from fewshot_i2v.errors import ConfigError
from fewshot_i2v.training.meta_objectives import import_algorithms

REQUIRE = "FEWSHOT_I2V_REQUIRE_LEARN2LEARN"
"""Set where it must be there: the skips become failures."""


def learn2learn_algorithms() -> Any:  # noqa: ANN401
    """Its algorithms; skips where it is not installed, or fails if the environment asks for it."""
    try:
        return import_algorithms()
    except ConfigError as error:
        if os.environ.get(REQUIRE):
            pytest.fail(str(error))
        pytest.skip("learn2learn is not installed (scripts/install_learn2learn.sh)")
