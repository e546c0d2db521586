"""ZeroI2V: some attention heads look at neighbour frames; linear adapters merge away (Li et al.).

Training adds linear adapters around the attention and the MLP; afterwards they are folded into
the frozen weights, and only the heads' frame offsets remain, which cost nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from fewshot_i2v.errors import AdapterError
from fewshot_i2v.models.adapters.base.adapter import AdapterOptions, Preset
from fewshot_i2v.models.adapters.base.frame_embedding import FrameEmbeddingAdapter
from fewshot_i2v.models.adapters.base.layers import (
    Bottleneck,
    EpisodeLayerNorm,
    TemporalEmbedding,
    hidden_width,
)
from fewshot_i2v.models.encoders.block import FrozenBlock, read_tokens
from fewshot_i2v.models.encoders.tower import Tower

_FRAME_AXIS, _HEAD_AXIS = -4, -2  # of keys and values, (E, clips, T, L, H, D/H)


class ZeroI2VOptions(AdapterOptions):
    """Options of ZeroI2V.

    Attributes:
        scale: factor of every adapter's branch, above 0 (0.5 in the paper, 1 for
            Something-Something v2).
        ratio: bottleneck width over D, above 0 and at most 1.
        out_adapter: whether an adapter follows the MLP too (as published).
        offsets: frame offset of each head, 0 for a spatial head; None for the published table,
            see `default_offsets`. Each must be smaller than the number of frames.
    """

    scale: float = Field(default=0.5, gt=0, le=1000)
    ratio: float = Field(default=0.25, gt=0, le=1)
    out_adapter: bool = True
    offsets: Annotated[tuple[int, ...] | None, Field(strict=False)] = None


def default_offsets(heads: int) -> tuple[int, ...]:
    """Frame offset of each head as published for clips of 8 frames.

    Args:
        heads: attention heads of a block. 16 heads: two look one frame back and two one frame
            ahead; fewer or more: one back and one ahead. The others stay spatial.

    Raises:
        AdapterError: for fewer than 2 heads.
    """
    if heads < 2:
        raise AdapterError(
            f"this encoder has {heads} attention head per block; ZeroI2V needs at least 2, one "
            "for the frame before and one for the frame after"
        )
    temporal = (-1, -1, 1, 1) if heads == 16 else (-1, 1)
    return temporal + (0,) * (heads - len(temporal))


def _published_preset(
    config: str, offsets: tuple[int, ...], scale: float, note: str = ""
) -> Preset:
    """Preset of one configuration file of the authors; heads not in `offsets` are spatial."""
    heads = 16 if config.startswith("CLIP-L") else 12
    table = offsets + (0,) * (heads - len(offsets))
    options = {"offsets": table, "scale": scale, "ratio": 0.25, "out_adapter": True}
    code = "https://github.com/MCG-NJU/ZeroI2V, configs/recognition/vit_zero_clip"
    return Preset(options, f"ZeroI2V; {code}/{config}.py{note}")


_UNSET_NOTE = "; the file needs ops_type='stdha', which it does not set"
_PRESETS = MappingProxyType(
    {
        "b16-k400-8": _published_preset("CLIP-B_k400_8x16x1", (-1, 1), 0.5),
        "b16-hmdb51-ucf101-8": _published_preset("CLIP-B_{hmdb51,ucf101}_u8_split1", (-1, 1), 0.5),
        "b16-ssv2-16": _published_preset("CLIP-B_sthv2_u16", (-1, 1, -2, 2), 1.0, _UNSET_NOTE),
        "b16-hmdb51-ucf101-32": _published_preset(
            "CLIP-B_{hmdb51,ucf101}_u32_split1", (-1, 1, -2, 2), 0.5, _UNSET_NOTE
        ),
        "l14-k400-8": _published_preset("CLIP-L_k400_8x16x1", (-1, -1, 1, 1), 0.5),
        "l14-k400-32": _published_preset("CLIP-L_k400_32x4x1", (-1, -1, 1, 1, -2, -2), 0.5),
        "l14-ssv2-32": _published_preset("CLIP-L_sthv2_u32", (-1, -1, 1, 1, -2, 2, -3), 1.0),
    }
)


class ZeroI2V(FrameEmbeddingAdapter):
    """Heads with shifted keys and values, and linear adapters that can be merged.

    With tokens x of (E, clips, T, N + 1, D) and `A(u) = u + s (W2 (W1 u + b1) + b2)`, no
    activation, width h = D / 4:

        x <- x + A_S(stdha(A_in(ln_1(x))))
        x <- x + A_out(mlp(A_fc(ln_2(x))))

    `stdha` is the frozen attention in which head j takes its keys and values, class token included,
    from frame t + offset[j]; where that frame lies outside the clip it keeps its own. Queries stay.
    A zero-initialised temporal embedding, without weight decay as in the authors' configurations,
    is added before `ln_pre`, and a copy of `ln_post` is trained. The clip feature is the mean over
    T of `ln_post` of the class token. Biases have no weight decay here, as for every adapter (see
    `split_weight_decay`), so that rows differ in the adapter alone; in the authors' configurations
    those of the adapters decay like the weights.

    Initial values: W1 truncated normal of 0.02; W2 and all biases zero, so that adapters start as
    the identity. The network does not: the heads read other frames from the start. It equals the
    frozen encoder for clips whose frames are all the same. No dropout.

    Parameters of an episode: k L (2 D h + h + D) + T D + 2 D with k = 4 (3 without `out_adapter`)
    in each of L blocks, 14,209,536 for ViT-B/16 and T = 8; T D + 2 D = 7,680 after merging.

    Presets, named by encoder, data and frames of a clip, which fix the offsets of the 12 heads of
    ViT-B/16 or the 16 of ViT-L/14:

    | preset | offsets of the first heads, the others 0 | scale |
    |---|---|---|
    | b16-k400-8, b16-hmdb51-ucf101-8 | -1 1 | 0.5 |
    | b16-ssv2-16 | -1 1 -2 2 | 1 |
    | b16-hmdb51-ucf101-32 | -1 1 -2 2 | 0.5 |
    | l14-k400-8 | -1 -1 1 1 | 0.5 |
    | l14-k400-32 | -1 -1 1 1 -2 -2 | 0.5 |
    | l14-ssv2-32 | -1 -1 1 1 -2 2 -3 | 1 |

    The offsets of ViT-B/16 on Something-Something v2 with 8 frames were not released.

    With `merged`, no bottlenecks are built: this is the adapter that remains after `merge`.
    """

    Options = ZeroI2VOptions
    source = (
        "Li, Zhu, Wang, ZeroI2V: Zero-Cost Adaptation of Pre-trained Transformers from Image to "
        "Video, ECCV 2024, https://arxiv.org/abs/2310.01324"
    )
    citation = """
    @inproceedings{li2024zeroi2v,
      author = {Li, Xinhao and Zhu, Yuhan and Wang, Limin},
      title = {{ZeroI2V}: Zero-Cost Adaptation of Pre-trained Transformers from Image to Video},
      booktitle = {European Conference on Computer Vision},
      year = {2024},
      url = {https://arxiv.org/abs/2310.01324},
    }
    """
    identity_at_init = False
    mergeable = True
    frame_order = "yes"
    no_weight_decay = ("temporal_embedding",)
    presets = _PRESETS
    options: ZeroI2VOptions

    def __init__(
        self,
        tower: Tower,
        options: ZeroI2VOptions,
        *,
        frames: int,
        seeds: Sequence[int],
        merged: bool = False,
    ) -> None:
        super().__init__(tower, options, frames=frames, seeds=seeds)
        custom_offsets = options.offsets
        self.offsets = default_offsets(tower.heads) if custom_offsets is None else custom_offsets
        if custom_offsets is not None:
            _check_offsets(custom_offsets, tower.heads, frames)
        self.temporal_embedding = TemporalEmbedding(self.episodes, frames, tower.width)
        self.ln_post = EpisodeLayerNorm(tower.norm_post, self.episodes)
        with_adapters = not merged
        self.attn_in, self.attn_out = (
            self._linear_adapters(tower, with_adapters),
            self._linear_adapters(tower, with_adapters),
        )
        self.mlp_in = self._linear_adapters(tower, with_adapters)
        self.mlp_out = self._linear_adapters(tower, with_adapters and options.out_adapter)

    def _linear_adapters(self, tower: Tower, with_adapters: bool) -> nn.ModuleList:
        """One linear adapter per block, or an identity."""
        width, options = tower.width, self.options
        hidden = hidden_width(width, options.ratio)

        def _new_layer() -> nn.Module:
            if not with_adapters:
                return nn.Identity()
            return Bottleneck(
                self.generators, width, hidden, activation="none", skip=True, scale=options.scale
            )

        return nn.ModuleList(_new_layer() for _ in tower.blocks)

    @property
    def temporal_radius(self) -> int:
        """The largest offset of a head that stays inside the clip."""
        return max((abs(o) for o in self.offsets if abs(o) < self.frames), default=0)

    def _stdha(self, frozen: FrozenBlock, u: Tensor, *, class_token_only: bool) -> Tensor:
        """Spatio-temporal dual-headed attention of (E, clips, T, N + 1, D)."""
        q, k, v = frozen.qkv(u, class_token_only=class_token_only)
        return frozen.attend_qkv(q, shift_heads(k, self.offsets), shift_heads(v, self.offsets))

    def block(
        self, i: int, frozen: FrozenBlock, x: Tensor, *, class_token_only: bool = False
    ) -> Tensor:
        """Block i with shifted heads and linear adapters around attention and MLP."""
        u = self.attn_in[i](frozen.ln_1(x))
        attended = self._stdha(frozen, u, class_token_only=class_token_only)
        x = read_tokens(x, class_token_only) + self.attn_out[i](attended)
        y: Tensor = x + self.mlp_out[i](frozen.mlp(self.mlp_in[i](frozen.ln_2(x))))
        return y

    def class_token_block(self, i: int, frozen: FrozenBlock, x: Tensor) -> Tensor:
        """The class token after block i, without what does not reach it."""
        return self.block(i, frozen, x, class_token_only=True)

    def merge(self, tower: Tower, episode: int = 0) -> tuple[Tower, ZeroI2V]:
        """Folds one episode's adapters into the tower.

        Offsets, temporal embedding and `ln_post` remain, in an adapter without bottlenecks.
        Products are taken in float64 and rounded once, to the type of the tower's weights.
        """
        if not 0 <= episode < self.episodes:
            raise AdapterError(f"episode {episode}: this adapter holds 0 to {self.episodes - 1}")
        merged_tower = tower.with_blocks(
            [self._merge_block(i, block, episode) for i, block in enumerate(tower.blocks)]
        )
        remainder = ZeroI2V(merged_tower, self.options, frames=self.frames, seeds=[0], merged=True)
        state = self.state_dict()
        remainder.load_state_dict(
            {name: state[name][episode, None] for name in remainder.state_dict()}
        )
        return merged_tower, remainder.to(next(self.parameters()).device)

    def _merge_block(self, i: int, block: FrozenBlock, episode: int) -> FrozenBlock:
        qkv = _fold_into_input(self.attn_in[i], episode, block.qkv_weight, block.qkv_bias)
        out = _fold_into_output(self.attn_out[i], episode, block.out_weight, block.out_bias)
        fc = _fold_into_input(self.mlp_in[i], episode, block.fc_weight, block.fc_bias)
        proj = _fold_into_output(self.mlp_out[i], episode, block.proj_weight, block.proj_bias)
        folded: dict[str, Any] = {}
        for name, (weight, bias) in {"qkv": qkv, "out": out, "fc": fc, "proj": proj}.items():
            folded |= {f"{name}_weight": weight, f"{name}_bias": bias}
        return replace(block, **folded)


def _check_offsets(offsets: tuple[int, ...], heads: int, frames: int) -> None:
    """Refuses offsets that do not fit the encoder's heads or the clips."""
    if len(offsets) != heads:
        raise AdapterError(
            f"zeroi2v offsets={list(offsets)}: got {len(offsets)} values; this encoder has {heads} "
            "heads per block, and each needs one (0 for a spatial head). Presets b16-... have 12 "
            "and presets l14-... 16: where none fits, give offsets of your own"
        )
    outside = [offset for offset in offsets if abs(offset) >= frames]
    if outside:
        clip = "one frame" if frames == 1 else f"{frames} frames"
        raise AdapterError(
            f"zeroi2v offsets={list(offsets)}: {outside[0]} lies outside every clip of {clip}; "
            "give offsets smaller than the number of frames, or a preset with smaller ones"
        )


def _fold_into_input(
    adapter: nn.Module, episode: int, weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Folds the adapter on the input of a linear layer into the layer: W M and W c + b."""
    if not isinstance(adapter, Bottleneck):
        return weight, bias
    m, c = (t.to(weight.device) for t in adapter.linear_map(episode))
    exact_weight = weight.double()
    return (exact_weight @ m).to(weight.dtype), (exact_weight @ c + bias.double()).to(bias.dtype)


def _fold_into_output(
    adapter: nn.Module, episode: int, weight: Tensor, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """Folds the adapter on the output of a linear layer into the layer: M W and M b + c."""
    if not isinstance(adapter, Bottleneck):
        return weight, bias
    m, c = (t.to(weight.device) for t in adapter.linear_map(episode))
    return (m @ weight.double()).to(weight.dtype), (m @ bias.double() + c).to(bias.dtype)


def shift_heads(x: Tensor, offsets: Sequence[int]) -> Tensor:
    """Shifts keys or values in time, each head by its own frame offset.

    Args:
        x: (E, clips, T, L, H, D/H). Where no gradients are recorded, x itself is changed: only the
            heads that move are copied then.
        offsets: H frame offsets; a head whose frame t + offset lies outside the clip keeps
            frame t (it is not clamped to the first or last frame).

    Returns:
        The same shape.
    """
    if not any(offsets):
        return x
    if not torch.is_grad_enabled():
        return _shift_in_place(x, offsets)
    shifted: Tensor = _HeadShift.apply(x, tuple(offsets))
    return shifted


def _moved_heads(
    x: Tensor, y: Tensor, offsets: Sequence[int]
) -> Iterator[tuple[Tensor, Tensor, int]]:
    """Yields the heads of x and y that move, neighbours of one offset together, and the offset."""
    start = 0
    for offset, group in itertools.groupby(offsets):
        length = len(list(group))
        if 0 < abs(offset) < x.shape[_FRAME_AXIS]:
            heads = (t.narrow(_HEAD_AXIS, start, length) for t in (x, y))
            yield next(heads), next(heads), offset
        start += length


def _split_frames(x: Tensor, offset: int) -> tuple[Tensor, Tensor]:
    """Splits frames into those that read another one, and those that are read by another one."""
    frames, distance = x.shape[_FRAME_AXIS], abs(offset)
    first, last = (x.narrow(_FRAME_AXIS, at, frames - distance) for at in (0, distance))
    return (first, last) if offset > 0 else (last, first)


class _HeadShift(torch.autograd.Function):
    """The shift of heads with a backward pass of its own.

    That of joined slices writes a full-size gradient for each slice and adds them up. Here only the
    heads that move are touched twice. It is made of differentiable operations, so that
    meta-training can differentiate it again.
    """

    generate_vmap_rule = True  # meta-training runs it in `torch.func`

    @staticmethod
    def forward(x: Tensor, offsets: tuple[int, ...]) -> Tensor:
        """Copies x, and the frames that heads read in place of their own."""
        y = x.clone()
        for source, target, offset in _moved_heads(x, y, offsets):
            _split_frames(target, offset)[0].copy_(_split_frames(source, offset)[1])
        return y

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ANN401 - autograd's
        """Stores the offsets."""
        ctx.offsets = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None]:  # noqa: ANN401
        """Returns the gradient of x."""
        # in the order in memory that attention left it in: another one would cost a slow copy
        grad_x = grad.clone()
        for source, target, offset in _moved_heads(grad, grad_x, ctx.offsets):
            _split_frames(target, offset)[0].zero_()
            _split_frames(target, offset)[1].add_(_split_frames(source, offset)[0])
        return grad_x, None


def _shift_in_place(x: Tensor, offsets: Sequence[int]) -> Tensor:
    """`shift_heads` without a copy: each frame is read before it is overwritten."""
    frames = x.shape[_FRAME_AXIS]
    for head, offset in enumerate(offsets):
        time_steps = range(frames - offset) if offset > 0 else range(frames - 1, -offset - 1, -1)
        for t in time_steps if offset else ():
            x.select(_HEAD_AXIS, head).select(_FRAME_AXIS + 1, t).copy_(
                x.select(_HEAD_AXIS, head).select(_FRAME_AXIS + 1, t + offset)
            )
    return x
