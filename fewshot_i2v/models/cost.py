"""Counts what an adapter costs: parameters and multiply-accumulates, without weights.

The adapted encoder is run on PyTorch's meta device, where tensors have a shape and no values,
and an operator counter adds up its operations. Nothing is estimated from a formula, so an
adapter in a new file is counted in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from fewshot_i2v import registry
from fewshot_i2v.errors import AdapterError, UsageError
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.adapter import Adapter, FrameOrder
from fewshot_i2v.models.adapters.base.layers import TemporalDepthwiseConv
from fewshot_i2v.models.encoders.tower import Tower
from fewshot_i2v.models.factory import check_episode_axis
from fewshot_i2v.models.multiply_accumulates import MultiplyAccumulateCounter

_META_DEVICE = torch.device("meta")
_RGB_CHANNELS = 3


@dataclass(frozen=True)
class Cost:
    """Cost of one episode of an adapter; no head is included.

    Multiply-accumulates are those of matrix products, convolutions and attention, in the whole
    adapted encoder for one frame of a clip; papers often call them FLOPs. Norms, activations and
    sums are not counted.

    Attributes:
        adapter: name of the adapter.
        options: all option values that it was built with.
        parameters: values that are trained.
        macs_per_frame: multiply-accumulates of a frame.
        parameters_merged: values that remain beside the frozen weights after merging; None for
            methods that cannot be merged.
        macs_per_frame_merged: likewise.
        order: whether the order of frames can matter: "no", "embedding" or "yes".
        reach: frames on each side that one block or level can see.
        frames: frames T of a clip.
        note: shown beside the name in every table.
        source: the paper.
    """

    adapter: str
    options: Mapping[str, Any] = field(repr=False)
    parameters: int
    macs_per_frame: float
    parameters_merged: int | None
    macs_per_frame_merged: float | None
    order: FrameOrder
    reach: int
    frames: int
    note: str = ""
    source: str = field(default="", repr=False)

    @property
    def order_in_words(self) -> str:
        """Describes how the order of frames can enter: "no", "through the embedding" or "yes"."""
        return "through the embedding" if self.order == "embedding" else self.order

    @property
    def neighbours(self) -> str:
        """Describes which further frames of the clip one block or level sees."""
        if not self.reach:
            return "none"
        return "every frame" if self.reach >= self.frames - 1 else f"±{self.reach} per block"


@dataclass(frozen=True)
class CostRow:
    """One adapter of a cost table, with its defaults or with a preset.

    Attributes:
        adapter: name of the adapter.
        preset: name of the preset, or "" for the defaults.
        source: the paper, or where the preset's options are written.
        cost: None where it does not fit.
        reason: why it does not fit, or "".
        usable: False for a faulty plug-in, which does not fit any tower.
    """

    adapter: str
    preset: str
    source: str
    cost: Cost | None
    reason: str = ""
    usable: bool = True

    @property
    def label(self) -> str:
        """Value of `adapter` on the command line."""
        return f"{self.adapter}:preset={self.preset}" if self.preset else self.adapter


def compare_costs(tower: Tower, *, frames: int = 8, presets: bool = False) -> tuple[CostRow, ...]:
    """Counts the costs of all adapters on a tower, sorted by name.

    Args:
        tower: as for `count_adapter_cost`.
        frames: frames T of a clip, at least 1.
        presets: whether every preset gets a row too.

    Returns:
        One row each; adapters and presets that do not fit this tower have a reason in place of
        a cost, and so have plug-ins with a fault.
    """
    rows: list[CostRow] = []
    for name in registry.method_names("adapters"):
        rows.append(_cost_row(tower, name, frames, "", ""))
        if presets and rows[-1].usable:
            adapter_presets = registry.load_method("adapters", name).presets
            rows += [
                _cost_row(tower, name, frames, preset_name, preset.source)
                for preset_name, preset in adapter_presets.items()
            ]
    return tuple(rows)


def _cost_row(tower: Tower, name: str, frames: int, preset: str, source: str) -> CostRow:
    try:
        cost = count_adapter_cost(tower, name, {"preset": preset} if preset else {}, frames=frames)
    except AdapterError as error:
        return CostRow(name, preset, source, None, str(error))
    except UsageError as error:
        return CostRow(name, preset, source, None, str(error), usable=False)
    except Exception as error:
        if registry.code_digest("adapters", name) is None:
            raise  # a fault of this package must not hide in a table
        return CostRow(name, preset, source, None, f"{type(error).__name__}: {error}", usable=False)
    return CostRow(name, preset, source or cost.source, cost)


def count_adapter_cost(
    tower: Tower, adapter: str, options: Mapping[str, Any] | None = None, *, frames: int = 8
) -> Cost:
    """Counts the cost of an adapter on a tower.

    Args:
        tower: its shapes are used, its values never; `meta_tower` builds one without values.
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
    adapter_class: type[Adapter] = registry.load_method("adapters", adapter)
    parsed_options = adapter_class.parse(options or {})
    meta_tower = tower.to(_META_DEVICE, torch.float32)
    with _on_meta_device(adapter) as counter:
        built_adapter = adapter_class(meta_tower, parsed_options, frames=frames, seeds=[0]).to(
            _META_DEVICE
        )
        check_episode_axis(built_adapter, adapter)
        macs = _macs_per_frame(meta_tower, built_adapter, counter)
        merged_parameters, merged_macs = None, None
        if adapter_class.mergeable:
            merged_tower, remainder = built_adapter.merge(meta_tower)
            merged_parameters = _count_parameters(remainder)
            merged_macs = _macs_per_frame(merged_tower, remainder, counter)
    return Cost(
        adapter=adapter,
        options=parsed_options.model_dump(mode="json"),
        parameters=_count_parameters(built_adapter),
        macs_per_frame=macs,
        parameters_merged=merged_parameters,
        macs_per_frame_merged=merged_macs,
        order=built_adapter.frame_order,
        reach=built_adapter.temporal_radius,
        frames=frames,
        note=built_adapter.display_note,
        source=built_adapter.source,
    )


def macs_per_clip(
    tower: Tower, adapter: str, options: Mapping[str, Any], *, frames: int
) -> float | None:
    """Counts multiply-accumulates of the adapted encoder for one clip, as in `Cost`.

    Args:
        tower: as for `count_adapter_cost`.
        adapter: name.
        options: of the adapter.
        frames: frames T of a clip, at least 1.

    Returns:
        None for an adapter that cannot be counted without values, as may happen with a plug-in.
    """
    adapter_class: type[Adapter] = registry.load_method("adapters", adapter)
    meta_tower = tower.to(_META_DEVICE, torch.float32)
    try:
        with _on_meta_device(adapter) as counter:
            built_adapter = adapter_class(
                meta_tower, adapter_class.parse(options), frames=frames, seeds=[0]
            ).to(_META_DEVICE)
            return _macs_per_frame(meta_tower, built_adapter, counter) * frames
    except AdapterError:
        return None
    except Exception:
        if registry.code_digest("adapters", adapter) is None:
            raise  # a fault of this package must not hide
        return None


@contextmanager
def _on_meta_device(adapter: str) -> Iterator[MultiplyAccumulateCounter]:
    """Creates new tensors on the meta device, with a shape and no values, and counts.

    Raises:
        AdapterError: when the code inside needs a value.
    """
    try:
        with torch.no_grad(), _META_DEVICE, MultiplyAccumulateCounter() as counter:
            yield counter
    except RuntimeError as error:
        raise AdapterError(
            f"{adapter} cannot be counted without weights: {error}. An adapter must not read the "
            "tower's values or move them to another device, neither when it is built nor later"
        ) from error


def _count_parameters(adapter: Adapter) -> int:
    """Counts the trained values of one episode."""
    return sum(parameter[0].numel() for parameter in adapter.parameters())


def _macs_per_frame(tower: Tower, adapter: Adapter, counter: MultiplyAccumulateCounter) -> float:
    """Counts multiply-accumulates of the adapted encoder, for one frame of one clip."""
    encoder = AdaptedEncoder(tower, adapter)
    encoder.all_tokens = True  # as papers count
    side = tower.image_size
    clip = torch.empty(1, 1, adapter.frames, _RGB_CHANNELS, side, side)
    earlier = counter.total
    with _count_depthwise_macs(adapter) as depthwise_macs:
        encoder(encoder.compute_prefix(clip))
    return (counter.total - earlier + sum(depthwise_macs)) / adapter.frames


@contextmanager
def _count_depthwise_macs(adapter: Adapter) -> Iterator[list[int]]:
    """Counts multiply-accumulates of depthwise convolutions over time, which the counter misses.

    They are computed with `addcmul`, which is otherwise used only for operations that are not
    counted (scales and masks).
    """
    depthwise_macs: list[int] = []

    def _count(conv: nn.Module, _: object, out: Tensor) -> None:
        if isinstance(conv, TemporalDepthwiseConv):
            depthwise_macs.append(out.numel() * conv.weight.shape[-1])

    handles = [
        module.register_forward_hook(_count)
        for module in adapter.modules()
        if isinstance(module, TemporalDepthwiseConv)
    ]
    try:
        yield depthwise_macs
    finally:
        for handle in handles:
            handle.remove()
