"""Trainings of this folder start no processes that decode."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.tiny import clips_decoded_here


@pytest.fixture(autouse=True, scope="package")
def _clips_decoded_here() -> Iterator[None]:
    with clips_decoded_here():
        yield
