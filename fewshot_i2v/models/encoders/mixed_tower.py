"""An encoder in two precisions: complete frozen features in float32, adapted blocks in bfloat16.

Features of the frozen encoder are computed once per clip, so float32 costs little there, and small
differences between them decide predictions. What an adapter changes is computed in every step.
Each of the two towers is made when it first computes something.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fewshot_i2v.errors import EncoderError
from fewshot_i2v.models.encoders.deferred import (
    DeferredTower,
    TowerSizes,
    open_encoder,
    values_beside_blocks,
)
from fewshot_i2v.models.encoders.loading import Encoder, load_encoder
from fewshot_i2v.models.encoders.tower import Tower

PRECISIONS = ("mixed", "fp32", "bf16")
"""fp32 and bf16: of all weights and tokens; mixed: of a `MixedTower`."""


class MixedTower(DeferredTower):
    """A tower in bfloat16, with one in float32 for complete features of the frozen encoder.

    Args:
        exact: the tower in float32.
        sizes: as all following ones, see `DeferredTower`; `load` loads the tower in bfloat16.
        values: likewise.
        load: likewise.
        device: of both.
    """

    _exact: Tower

    def __init__(
        self,
        exact: Tower,
        sizes: TowerSizes,
        values: Mapping[str, Tensor],
        load: Callable[[], Tower],
        *,
        device: torch.device,
    ) -> None:
        super().__init__(sizes, values, load, device=device, dtype=torch.bfloat16)
        vars(self)["_exact"] = exact

    @property
    def exact(self) -> Tower:
        """The tower in float32, which computes complete features of the frozen encoder."""
        return self._exact

    def to(  # type: ignore[override]
        self, device: torch.device | str, dtype: torch.dtype
    ) -> Tower:
        """Return a copy of the float32 tower on a device in a floating type."""
        if torch.device(device).type == "meta":
            return super().to(device, dtype)
        return self._exact.to(device, dtype)


def load_in_precision(
    precision: str,
    source: Mapping[str, Any],
    device: torch.device | str,
    *,
    records: Path | None = None,
) -> Encoder:
    """Load an encoder in one of the precisions of a run.

    Args:
        precision: one of `PRECISIONS`.
        source: arguments of `load_encoder` that name the encoder.
        device: of the encoder.
        records: the cache folder, for runs that may read no weights (`open_encoder`); None: they
            are read.

    Raises:
        EncoderError: for another precision.
        UsageError: as `load_encoder`.
    """
    if precision not in PRECISIONS:
        raise EncoderError(
            f"precision {precision!r}: expected {', '.join(PRECISIONS)}; a later version of "
            "fewshot-i2v may have others"
        )
    device = torch.device(device)
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    if records is not None:
        encoder = open_encoder(records, source, device=device, dtype=dtype)
        return _mixed_of_exact(encoder, device) if precision == "mixed" else encoder
    if precision != "mixed":
        return load_encoder(**source, device=device, dtype=dtype)
    # where it is only read, so that a GPU holds no tower that computes nothing
    loaded = load_encoder(**source)
    return _mixed_of_loaded(loaded, lambda: load_encoder(**source), device)


def _mixed_of_exact(encoder: Encoder, device: torch.device) -> Encoder:
    """Returns an encoder in float32, on the device, with a tower in bfloat16 beside it."""
    exact = encoder.tower
    if not exact.layers:
        return encoder  # without blocks there is nothing that an adapter changes
    sizes = exact.sizes if isinstance(exact, DeferredTower) else TowerSizes.of(exact)

    def _load() -> Tower:
        return exact.to(device, torch.bfloat16)

    tower = MixedTower(exact, sizes, values_beside_blocks(exact), _load, device=device)
    return replace(encoder, tower=tower)


def _mixed_of_loaded(
    encoder: Encoder, load: Callable[[], Encoder], device: torch.device
) -> Encoder:
    """Returns an encoder that was loaded in float32 on the CPU with both towers made when needed.

    The first one takes the weights that were loaded, so that they stay in memory only where they
    compute. For the other one they are loaded again, or copied from the float32 tower.
    """
    if not encoder.tower.layers:
        return replace(encoder, tower=encoder.tower.to(device, torch.float32))
    sizes, values = TowerSizes.of(encoder.tower), values_beside_blocks(encoder.tower)
    unused, digest = [encoder.tower], encoder.digest

    def _weights() -> Tower:
        if unused:
            return unused.pop()
        again = load()
        if again.digest != digest:
            raise EncoderError(
                f"{again.name}: its weights changed while they were in use, from digest "
                f"{digest[:16]} to {again.digest[:16]}; run again"
            )
        return again.tower

    def _exact() -> Tower:
        return _weights().to(device, torch.float32)

    def _adapted() -> Tower:
        source = exact if exact.is_loaded else _weights()
        return source.to(device, torch.bfloat16)

    exact = DeferredTower(sizes, values, _exact, device=device, dtype=torch.float32)
    return replace(encoder, tower=MixedTower(exact, sizes, values, _adapted, device=device))
