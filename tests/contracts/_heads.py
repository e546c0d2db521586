"""The heads that the contract is checked for, each with its options."""

from __future__ import annotations

from typing import Any

import pytest

from fewshot_i2v import registry
from fewshot_i2v.models.heads.base.head import Head
from fewshot_i2v.tuning.contract.head_subject import (
    HeadSubject,
    load_head_subject,
    option_variants,
)
from fewshot_i2v.tuning.contract.head_subject import make_episode as episode
from tests.contracts._plugins import everything

__all__ = ["DEFAULTS", "NAMES", "READERS", "SUBJECTS", "build", "episode", "every_head"]

with everything():
    NAMES = [row.name for row in registry.list_methods("heads")]
    # Leaving clips out fits a classifier for every clip and every C. The default options do so; the
    # choice of C takes vectors as they come, so a fixed C says the same about what changes them.
    QUICK: dict[str, dict[str, Any]] = {"logistic": {"c": 1.0}}
    DEFAULTS = {name: load_head_subject(name) for name in NAMES}
    SUBJECTS = [
        variant
        for name, subject in DEFAULTS.items()
        for variant in option_variants(subject, QUICK.get(name))
    ]
READERS = [name for name in NAMES if DEFAULTS[name].head_class.uses_class_names]
every_head = pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.label)


def build(name: str, options: dict[str, Any]) -> Head:
    """A head of the sizes of `episode`; one that reads names gets those of its classes."""
    return HeadSubject(name, DEFAULTS[name].head_class, options).build()
