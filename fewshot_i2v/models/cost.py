"""What an adapter costs on an architecture: parameters and multiply-accumulates, without weights.

The adapted encoder is run on PyTorch's meta device, where tensors have a shape and no values, and
an operator counter adds up what it sees: nothing is estimated from a formula, so an adapter in a
new file is counted like the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from fewshot_i2v import registry
from fewshot_i2v.errors import AdapterError, UsageError
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.adapter import Adapter, Order
from fewshot_i2v.models.adapters.base.layers import TemporalDepthwiseConv
from fewshot_i2v.models.encoders.tower import Tower
from fewshot_i2v.models.factory import check_built

_META = torch.device("meta")
_CHANNELS = 3


@dataclass(frozen=True)
class Cost:
    """What one episode of an adapter costs; no head is included.

    Multiply-accumulates are those of matrix products, convolutions and attention, in the whole
    adapted encoder for one frame of a clip; papers often call them FLOPs. Norms, activations and
    sums are not counted.

    Attributes:
        adapter: name of the adapter.
        options: what it was built with, all of them.
        parameters: values that are trained.
        macs_per_frame: multiply-accumulates of a frame.
        parameters_merged: values that remain beside the frozen weights after merging; None for
            methods that cannot be merged.
        macs_per_frame_merged: likewise.
        order: whether the order of frames can matter: "no", "embedding" or "yes".
        reach: frames on each side that one block or level can see.
        frames: frames T of a clip.
        note: said beside the name in every table.
        source: the paper.
    """

    adapter: str
    options: Mapping[str, Any] = field(repr=False)
    parameters: int
    macs_per_frame: float
    parameters_merged: int | None
    macs_per_frame_merged: float | None
    order: Order
    reach: int
    frames: int
    note: str = ""
    source: str = field(default="", repr=False)

    @property
    def order_in_words(self) -> str:
        """How the order of frames can enter: "no", "through the embedding" or "yes"."""
        return "through the embedding" if self.order == "embedding" else self.order

    @property
    def neighbours(self) -> str:
        """Which other frames of the clip one block or level can see, in words."""
        if not self.reach:
            return "none"
        return "every frame" if self.reach >= self.frames - 1 else f"±{self.reach} per block"


@dataclass(frozen=True)
class Row:
    """One adapter of a comparison, with its defaults or with a preset.

    Attributes:
        adapter: name of the adapter.
        preset: name of the preset, or "" for the defaults.
        source: the paper, or where the preset's options are written.
        cost: None where it does not fit.
        reason: why it does not fit, or "".
        usable: False for a faulty plug-in, which fits nowhere.
    """

    adapter: str
    preset: str
    source: str
    cost: Cost | None
    reason: str = ""
    usable: bool = True

    @property
    def label(self) -> str:
        """What to give as `adapter` on the command line."""
        return f"{self.adapter}:preset={self.preset}" if self.preset else self.adapter


def compare(tower: Tower, *, frames: int = 8, presets: bool = False) -> tuple[Row, ...]:
    """Costs of all adapters on a tower, by name.

    Args:
        tower: as for `cost_of`.
        frames: frames T of a clip, at least 1.
        presets: whether every preset gets a row too.

    Returns:
        One row each; adapters and presets that do not fit this tower have a reason in place of
        a cost, and so have plug-ins with a fault.
    """
    rows: list[Row] = []
    for name in registry.names("adapters"):
        rows.append(_row(tower, name, frames, "", ""))
        if presets and rows[-1].usable:
            known = registry.load("adapters", name).presets
            rows += [_row(tower, name, frames, p, preset.source) for p, preset in known.items()]
    return tuple(rows)


def _row(tower: Tower, name: str, frames: int, preset: str, source: str) -> Row:
    try:
        cost = cost_of(tower, name, {"preset": preset} if preset else {}, frames=frames)
    except AdapterError as error:
        return Row(name, preset, source, None, str(error))
    except UsageError as error:
        return Row(name, preset, source, None, str(error), usable=False)
    except Exception as error:
        if registry.code_digest("adapters", name) is None:
            raise  # a fault of this package must not hide in a table
        return Row(name, preset, source, None, f"{type(error).__name__}: {error}", usable=False)
    return Row(name, preset, source or cost.source, cost)


def cost_of(
    tower: Tower, adapter: str, options: Mapping[str, Any] | None = None, *, frames: int = 8
) -> Cost:
    """Counts an adapter on a tower.

    Args:
        tower: its shapes are used, its values never; `encoders.shapes.shapes_of` gives one that
            has none.
        adapter: name.
        options: of the adapter, `preset` among them; None for its defaults.
        frames: frames T of a clip, at least 1.

    Raises:
        UnknownNameError: for an unknown adapter or preset.
        pydantic.ValidationError: for options that the adapter does not have or allow.
        AdapterError: when the adapter does not fit the tower or the number of frames, or computes
            something that needs values.
    """
    if frames < 1:
        raise AdapterError(f"frames={frames}: a clip has at least 1 frame")
    found: type[Adapter] = registry.load("adapters", adapter)
    chosen = found.parse(options or {})
    shapes = tower.to(_META, torch.float32)
    with _without_values(adapter):
        built = found(shapes, chosen, frames=frames, seeds=[0]).to(_META)
        check_built(built, adapter)
        macs = _macs_per_frame(shapes, built)
        merged_parameters, merged_macs = None, None
        if found.mergeable:
            merged_tower, rest = built.merge(shapes)
            merged_parameters = _parameters(rest)
            merged_macs = _macs_per_frame(merged_tower, rest)
    return Cost(
        adapter=adapter,
        options=chosen.model_dump(mode="json"),
        parameters=_parameters(built),
        macs_per_frame=macs,
        parameters_merged=merged_parameters,
        macs_per_frame_merged=merged_macs,
        order=built.order,
        reach=built.reach,
        frames=frames,
        note=built.note,
        source=built.source,
    )


def macs_per_clip(
    tower: Tower, adapter: str, options: Mapping[str, Any], *, frames: int
) -> float | None:
    """Multiply-accumulates of the adapted encoder for one clip, as `Cost` counts them.

    Args:
        tower: as for `cost_of`.
        adapter: name.
        options: of the adapter.
        frames: frames T of a clip, at least 1.

    Returns:
        None for an adapter that cannot be counted without values, as one of a user may be.
    """
    found: type[Adapter] = registry.load("adapters", adapter)
    shapes = tower.to(_META, torch.float32)
    try:
        with _without_values(adapter):
            built = found(shapes, found.parse(options), frames=frames, seeds=[0]).to(_META)
            return _macs_per_frame(shapes, built) * frames
    except AdapterError:
        return None
    except Exception:
        if registry.code_digest("adapters", adapter) is None:
            raise  # a fault of this package must not hide
        return None


@contextmanager
def _without_values(adapter: str) -> Iterator[None]:
    """New tensors get a shape and no values.

    Raises:
        AdapterError: when something inside asks for a value.
    """
    try:
        with torch.no_grad(), _META:
            yield
    except RuntimeError as error:
        raise AdapterError(
            f"{adapter} cannot be counted without weights: {error}. An adapter must not read the "
            "tower's values or move them to another device, neither when it is built nor later"
        ) from error


def _parameters(adapter: Adapter) -> int:
    """Trained values of one episode."""
    return sum(parameter[0].numel() for parameter in adapter.parameters())


def _macs_per_frame(tower: Tower, adapter: Adapter) -> float:
    """Multiply-accumulates of the adapted encoder, for one frame of one clip."""
    encoder = AdaptedEncoder(tower, adapter)
    side = tower.image_size
    clip = torch.empty(1, 1, adapter.frames, _CHANNELS, side, side)
    with FlopCounterMode(display=False) as counter, _depthwise(adapter) as seen:
        encoder(encoder.prefix(clip))
    # the counter takes a multiplication and an addition for two operations
    products: int = counter.get_total_flops() // 2
    return (products + sum(seen)) / adapter.frames


@contextmanager
def _depthwise(adapter: Adapter) -> Iterator[list[int]]:
    """Multiply-accumulates of depthwise convolutions over time, which the counter cannot see.

    They are computed with `addcmul`, elsewhere used for what no one counts (scales and masks).
    """
    seen: list[int] = []

    def _count(conv: nn.Module, _: object, out: Tensor) -> None:
        if isinstance(conv, TemporalDepthwiseConv):
            seen.append(out.numel() * conv.weight.shape[-1])

    handles = [
        module.register_forward_hook(_count)
        for module in adapter.modules()
        if isinstance(module, TemporalDepthwiseConv)
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
