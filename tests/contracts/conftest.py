"""The contract is checked for methods from outside the package too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.contracts._plugins import everything


@pytest.fixture(autouse=True)
def _methods_from_outside(_private_home: None) -> Iterator[None]:
    """What was there when the tests were collected is there while they run."""
    with everything():
        yield
