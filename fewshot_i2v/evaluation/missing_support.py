"""Stands for the support clips of a head that has none."""

from __future__ import annotations

from typing import NoReturn, cast

from torch import Tensor

from fewshot_i2v.errors import HeadError
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.heads.base.head import Head


class MissingSupport:
    """Placeholder for missing support clips; any access raises an error that says what to do.

    Args:
        head: name of the head.
    """

    def __init__(self, head: str | None) -> None:
        self._name = head

    def __getattr__(self, _: str) -> NoReturn:
        raise HeadError(
            f"the head {self._name!r} compares with support clips, and this folder has none: an "
            "earlier version wrote it. Use `fewshot-i2v export` to export the episode again, or "
            "in Python call set_support with clips of every class"
        )


def missing_support(head: str | None) -> Features:
    """Returns the placeholder where features of support clips are expected."""
    return cast("Features", MissingSupport(head))


def reads_support(head: Head, name: str, query: Features, labels: Tensor) -> bool:
    """Whether a head reads support clips to predict, beside what it was tuned to.

    Args:
        head: of E copies.
        name: of the head.
        query: features of a clip of each episode, from `select_tokens`.
        labels: class of each support clip, (E, S) int64.
    """
    try:
        head.query_logits(query, missing_support(name), labels)
    except HeadError:
        return True
    return False
