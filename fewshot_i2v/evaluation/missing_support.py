"""Stands for the support clips of a head that has none yet."""

from __future__ import annotations

from typing import NoReturn

from fewshot_i2v.errors import HeadError
from fewshot_i2v.models.checkpoints.metadata import CheckpointMetadata


class MissingSupport:
    """Placeholder for missing support clips; any access raises an error that says what to do."""

    def __init__(self, info: CheckpointMetadata) -> None:
        self._name = info.head and info.head.name

    def __getattr__(self, _: str) -> NoReturn:
        raise HeadError(
            f"the head {self._name!r} compares with support clips and has none: call "
            "set_support first, with clips of every class"
        )
