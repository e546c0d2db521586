"""All checks of adapters, in the order in which a problem is best understood."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fewshot_i2v.tuning.contract.adapter_declarations import ADAPTER_BUILDING_CHECKS
from fewshot_i2v.tuning.contract.adapter_features import ADAPTER_FEATURE_CHECKS, BLOCK_CHECK
from fewshot_i2v.tuning.contract.adapter_states import ADAPTER_STATE_CHECKS
from fewshot_i2v.tuning.contract.adapter_subject import (
    AdapterSubject,
    load_adapter_subject,
    shared_tower,
)
from fewshot_i2v.tuning.contract.adapter_time import ADAPTER_TIME_CHECKS
from fewshot_i2v.tuning.contract.adapter_training import (
    ADAPTER_TRAINING_CHECKS,
    FROZEN_ENCODER_CHECK,
)
from fewshot_i2v.tuning.contract.check import Check, CheckResult, run_checks

ADAPTER_CHECKS: tuple[Check[AdapterSubject], ...] = (
    *ADAPTER_BUILDING_CHECKS,
    BLOCK_CHECK,
    FROZEN_ENCODER_CHECK,
    *ADAPTER_FEATURE_CHECKS,
    *ADAPTER_TIME_CHECKS,
    *ADAPTER_TRAINING_CHECKS,
    *ADAPTER_STATE_CHECKS,
)


def run_adapter_contract(name: str, origin: Path) -> Iterator[CheckResult]:
    """Check the adapter of a name, with a new encoder for each check.

    Args:
        name: of an adapter that can be loaded.
        origin: its file, to name the line of an exception.

    Yields:
        A result per check.
    """
    for result in run_checks(ADAPTER_CHECKS, load_adapter_subject(name), origin):
        shared_tower.cache_clear()  # an adapter may have changed it
        yield result
