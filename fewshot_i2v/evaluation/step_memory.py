"""Memory of a fine-tuning step, measured on a clip, and how many episodes fit side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.frozen_prefix import (
    ClipPrefixes,
    ClipTokens,
    GridSizes,
    compute_prefix,
    prefix_tower,
)
from fewshot_i2v.models.device_memory import free_device_memory
from fewshot_i2v.models.encoders.tower import Tower
from fewshot_i2v.utils.sizes import format_size

if TYPE_CHECKING:
    from fewshot_i2v.evaluation.row_runner import RowRunner

TRAINED_BYTES = 16
"""Of a trained value: itself, its gradient and AdamW's two moments, in float32."""
_USED_SHARE = 0.9
"""Of the free memory; the rest is for what a step needs for a moment."""
_FLOAT_BYTES = 4


class FirstLimit(NamedTuple):
    """Episodes that fit into the free memory of a device side by side.

    Attributes:
        episodes: their number, at least 1.
        episode_bytes: that a step of one takes.
        free_bytes: free memory, without what the caches of the row will take.
    """

    episodes: int
    episode_bytes: int
    free_bytes: int

    def __str__(self) -> str:
        """Says why no more fit."""
        return (
            f"the device has {format_size(self.free_bytes)} of free memory, and an episode takes "
            f"about {format_size(self.episode_bytes)}: too little"
        )


def find_first_limit(runner: RowRunner) -> FirstLimit | None:
    """Finds how many episodes of a row fit into the free memory of the GPU.

    A step of one clip is measured. What it says only spares the first batch an attempt that fails:
    the batches themselves never depend on it.

    Returns:
        None on the CPU, and where all episodes of a batch fit.
    """
    device = runner.context.encoder.tower.device
    at_once = min(runner.parallel_episodes, len(runner.episodes))
    if device.type != "cuda" or at_once == 1 or runner.is_static or not runner.is_tuned:
        return None
    tuning, shape = runner.row.tuning, max(episode.shape for episode in runner.episodes)
    step_clips = tuning.views * min(shape[1], tuning.batch or shape[1])
    try:
        clip_bytes, saved = _measure_clip(runner)
    except torch.OutOfMemoryError:
        return None  # whoever runs the row meets the same, and says so
    head_bytes = _FLOAT_BYTES * runner.build_head([0]).saved_activations(step_clips)
    trained = TRAINED_BYTES * runner.parameters
    episode_bytes = trained + head_bytes + step_clips * (saved + clip_bytes)
    memory = runner.context.caches.memory
    n_clips = len({name for episode in runner.episodes for name in episode.clip_names()})
    cached = min(n_clips * clip_bytes, memory.limits().device)
    free = max(0, free_device_memory(device) - max(0, cached - memory.held.device))
    episodes = max(1, int(_USED_SHARE * free) // max(1, episode_bytes))
    return FirstLimit(episodes, episode_bytes, free) if episodes < at_once else None


def _measure_clip(runner: RowRunner) -> tuple[int, int]:
    """Returns the bytes of the prefix of a clip, and of what its step keeps."""
    encoder, grids = runner.build_encoder([0]), runner.grid_sizes
    encoder.compiles = False  # no other step has the shape of this one
    clips = noise_clips(encoder.tower, 1, runner.row.video.frames)
    tokens = cached_tokens(encoder, clips.unsqueeze(0), grids)
    parts = tokens if isinstance(tokens, ClipPrefixes) else (tokens,)
    saved = bytes_saved(lambda: run_step(encoder, tokens, grids), encoder)
    return sum(part.numel() * part.element_size() for part in parts), saved


def run_step(encoder: AdaptedEncoder, tokens: ClipTokens, grids: GridSizes) -> None:
    """Runs the forward and backward pass of an adapted encoder, with a loss on all it gives.

    Args:
        encoder: tower and adapter.
        tokens: the frozen prefix of clips, (E, C, ...).
        grids: cells on a side of each grid of patch tokens.
    """
    out = encoder(tokens, grid_sizes=grids)
    loss = sum(x.square().mean() for x in (out.frames, out.clip, *out.grids.values()))
    if loss.requires_grad:
        torch.autograd.backward(loss)


def noise_clips(tower: Tower, n_clips: int, frames: int) -> Tensor:
    """Clips of noise, (n, T, H, W, 3) uint8: zeros would have no angle to compare."""
    generator = torch.Generator().manual_seed(0)
    size = (n_clips, frames, tower.image_size, tower.image_size, 3)
    return torch.randint(256, size, dtype=torch.uint8, generator=generator)


@torch.no_grad()
def cached_tokens(encoder: AdaptedEncoder, clips: Tensor, grids: GridSizes) -> ClipTokens:
    """Computes what is cached of clips, (n, ...): the prefix, and what is read of the frozen tower.

    Args:
        encoder: of the row.
        clips: (n, T, H, W, 3) uint8.
        grids: cells on a side of each grid of patch tokens that the head reads.
    """
    pixels, spec = encoder.prefix_tower(grids).normalize(clips), encoder.frozen_spec(grids)
    prefix = encoder.compute_prefix(pixels, grid_sizes=grids)
    if spec is None:
        return prefix
    exact_pixels = prefix_tower(encoder.tower, spec).normalize(clips)
    return ClipPrefixes(prefix, compute_prefix(encoder.tower, spec, exact_pixels))


def bytes_saved(run: Callable[[], object], encoder: AdaptedEncoder) -> int:
    """Bytes of the activations that a function keeps for its backward pass."""
    weights = {_storage_id(t) for t in (*_tensors_in(encoder.tower), *encoder.parameters())}
    sizes: dict[int, int] = {}

    def _pack(tensor: Tensor) -> Tensor:
        if _storage_id(tensor) not in weights:
            sizes[_storage_id(tensor)] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(_pack, lambda tensor: tensor):
        run()
    return sum(sizes.values())


def _storage_id(tensor: Tensor) -> int:
    """Returns what tells storages apart, on every device; tensors that share one have the same."""
    return int(tensor.untyped_storage()._cdata)


def _tensors_in(value: object) -> Iterator[Tensor]:
    """Yields the tensors of a tower: its own, and those of its blocks and norms."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _tensors_in(item)
    elif hasattr(value, "__dataclass_fields__"):
        for item in vars(value).values():
            yield from _tensors_in(item)
