"""The contract is checked for methods from outside the package too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fewshot_i2v.models.heads import logistic
from fewshot_i2v.tuning.contract import learning_tasks
from tests.contracts._plugins import everything


@pytest.fixture(autouse=True, scope="package")
def _few_values_of_c() -> Iterator[None]:
    """The choice among all of them takes long; `tests/models/heads/test_logistic.py` checks it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logistic, "C_GRID", logistic.C_GRID[1:3])
        yield


@pytest.fixture(autouse=True, scope="package")
def _few_steps_of_learning() -> Iterator[None]:
    """The methods that are checked here learn in half the steps that a user's has for it."""
    half = learning_tasks._RECIPE.model_copy(update={"steps": 20})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(learning_tasks, "_RECIPE", half)
        yield


@pytest.fixture(autouse=True)
def _methods_from_outside(_private_home: None) -> Iterator[None]:
    """What was there when the tests were collected is there while they run."""
    with everything():
        yield
