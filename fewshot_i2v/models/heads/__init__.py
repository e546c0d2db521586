"""Heads: from features of support and query clips to class scores; one file each.

What a head of one's own needs is imported from here; see CONTRIBUTING.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fewshot_i2v.utils.lazy import lazy_exports

if TYPE_CHECKING:
    from fewshot_i2v.models.adapters.base.features import Features
    from fewshot_i2v.models.heads.base.features import class_means, l2_normalize, one_hot
    from fewshot_i2v.models.heads.base.head import ClassTexts, Head, HeadOptions

__all__ = [
    "ClassTexts",
    "Features",
    "Head",
    "HeadOptions",
    "class_means",
    "l2_normalize",
    "one_hot",
]

__getattr__, __dir__ = lazy_exports(
    "fewshot_i2v.models",
    {
        "adapters.base.features": ("Features",),
        "heads.base.features": ("class_means", "l2_normalize", "one_hot"),
        "heads.base.head": ("ClassTexts", "Head", "HeadOptions"),
    },
)
