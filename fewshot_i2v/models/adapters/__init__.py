"""Image-to-video adapters: one file each, found by its name.

What an adapter of one's own needs is imported from here; see CONTRIBUTING.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fewshot_i2v.utils.lazy import lazy_exports

if TYPE_CHECKING:
    from fewshot_i2v.models.adapters.base import layers
    from fewshot_i2v.models.adapters.base.adapter import Adapter, AdapterOptions, Preset
    from fewshot_i2v.models.adapters.base.features import Features
    from fewshot_i2v.models.adapters.base.frozen_prefix import PrefixSpec
    from fewshot_i2v.models.encoders.block import FrozenBlock
    from fewshot_i2v.models.encoders.tower import Tower

__all__ = [
    "Adapter",
    "AdapterOptions",
    "Features",
    "FrozenBlock",
    "PrefixSpec",
    "Preset",
    "Tower",
    "layers",
]

__getattr__, __dir__ = lazy_exports(
    "fewshot_i2v.models",
    {
        "adapters.base": ("layers",),
        "adapters.base.adapter": ("Adapter", "AdapterOptions", "Preset"),
        "adapters.base.features": ("Features",),
        "adapters.base.frozen_prefix": ("PrefixSpec",),
        "encoders.block": ("FrozenBlock",),
        "encoders.tower": ("Tower",),
    },
)
