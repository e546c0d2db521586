"""The frozen tower and an adapter as one module."""

from __future__ import annotations

from functools import partial

from torch import Tensor, is_grad_enabled, nn, no_grad
from torch.utils.checkpoint import checkpoint

from fewshot_i2v.errors import AdapterError
from fewshot_i2v.models.adapters.base.adapter import Adapter
from fewshot_i2v.models.adapters.base.compiled_block import run_compiled
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.adapters.base.frozen_prefix import (
    ClipPrefixes,
    ClipTokens,
    GridSizes,
    PrefixSpec,
    compute_prefix,
    finish_prefix,
    first_missing_block,
    grid_means,
    prefix_tower,
    reads_class_token_only,
    split_cells,
)
from fewshot_i2v.models.encoders.tower import Tower


class AdaptedEncoder(nn.Module):
    """A frozen tower with an adapter in it.

    Args:
        tower: the frozen tower.
        adapter: built for this tower.
        reads_frozen: whether the features of the frozen tower are computed as well, for heads that
            read them (`Head.reads_frozen`); without a gradient.

    Attributes:
        checkpointing: whether the backward pass computes each block again instead of storing its
            activations. The gradients are the same; it saves memory and costs time.
        compiles: whether blocks with a gradient are compiled, see `run_compiled`.
        all_tokens: whether the last block computes all tokens, also where the class token alone is
            read. The features are the same up to rounding; for counts that papers can be compared
            with.

    Raises:
        AdapterError: when the adapter overrides a method that `first_trained_block` skips.
    """

    def __init__(self, tower: Tower, adapter: Adapter, *, reads_frozen: bool = False) -> None:
        super().__init__()
        first = adapter.first_trained_block
        for name, last_use in (("patch_embed", -1), ("embed_tokens", 0)):
            is_overridden = getattr(type(adapter), name) is not getattr(Adapter, name)
            if is_overridden and first > last_use:
                raise AdapterError(
                    f"{type(adapter).__name__} has its own `{name}`, which "
                    f"first_trained_block={first} skips: what lies below it is computed once, "
                    "without it"
                )
        self.tower, self.adapter, self.reads_frozen = tower, adapter, reads_frozen
        self.checkpointing = False
        self.compiles = False
        self.all_tokens = False

    def compute_prefix(self, pixels: Tensor, *, grid_sizes: GridSizes = ()) -> Tensor:
        """Computes what stays constant while the adapter is tuned, once per clip.

        Args:
            pixels: (..., T, 3, H, W), normalised by `prefix_tower`.
            grid_sizes: cells on a side of each grid of patch tokens that will be requested.

        Returns:
            See the function `compute_prefix`; `PrefixSpec.clip_shape` has the axes of one clip.

        Raises:
            AdapterError: when the tower has fewer patches on a side than a grid needs.
        """
        spec = self.adapter.prefix_spec(grid_sizes)
        return compute_prefix(self.tower, spec, pixels, all_tokens=self.all_tokens)

    def prefix_tower(self, grid_sizes: GridSizes = ()) -> Tower:
        """Returns the tower that computes the prefix, see the function `prefix_tower`."""
        return prefix_tower(self.tower, self.adapter.prefix_spec(grid_sizes))

    def frozen_spec(self, grid_sizes: GridSizes = ()) -> PrefixSpec | None:
        """Describes what heads read of the frozen tower, which can be computed once per clip.

        Returns:
            The prefix of the adapter `frozen`; None where no head reads the frozen tower, or where
            the adapter's own prefix holds the output of its last block, in the same precision.
        """
        tower, spec = self.tower, self.adapter.prefix_spec(grid_sizes)
        is_held = first_missing_block(spec) >= tower.layers
        if not self.reads_frozen or (is_held and prefix_tower(tower, spec) is tower.exact):
            return None
        return PrefixSpec(tower.layers, grid_sizes=grid_sizes)

    def exact_spec(self, grid_sizes: GridSizes = ()) -> PrefixSpec | None:
        """Describes what the prefix of clips as they are must have beside it: `frozen_spec`.

        Returns:
            None, too, where the prefix gives the same in the same precision.
        """
        return None if self.tower.exact is self.tower else self.frozen_spec(grid_sizes)

    def forward(self, prefix: ClipTokens, *, grid_sizes: GridSizes = ()) -> Features:
        """Computes the features of clips from their frozen prefix.

        Args:
            prefix: output of `compute_prefix` with the same `grid_sizes` and the episode axis,
                (E, clips, ...); with that of `frozen_spec`, no frozen block is computed again.
            grid_sizes: cells on a side of each requested grid of patch tokens.

        Returns:
            The features, float32.

        Raises:
            AdapterError: when the number of episodes of `prefix` differs from the adapter's.
        """
        tower, adapter = self.tower, self.adapter
        prefix, known = prefix if isinstance(prefix, ClipPrefixes) else (prefix, None)
        spec = adapter.prefix_spec(grid_sizes)
        has_parameters = not spec.is_fully_frozen(tower) or spec.levels
        if prefix.shape[0] != adapter.episodes and has_parameters:
            raise AdapterError(
                f"got tokens of {prefix.shape[0]} episodes, {tuple(prefix.shape)}; this adapter "
                f"holds {adapter.episodes}: give tokens (E, clips, T, N + 1, D) with that E"
            )
        if spec.levels:
            x = adapter.side_branch(tower, prefix)
        else:
            class_token_only = not self.all_tokens and reads_class_token_only(tower, grid_sizes)
            x = self._run_blocks(prefix, max(spec.first_trained_block, 0), class_token_only)
        summary, cells = self._pool_tokens(x, spec, grid_sizes)
        frames, clip = adapter.pool_frames(tower, summary)
        grids = {size: adapter.final_norm(tower, grid).float() for size, grid in cells.items()}
        frozen = None
        if self.reads_frozen:
            frozen = self._frozen_features(prefix, known, spec, grid_sizes)
        return Features(frames.float(), clip.float(), grids, frozen)

    def _pool_tokens(
        self, x: Tensor, spec: PrefixSpec, grid_sizes: GridSizes
    ) -> tuple[Tensor, dict[int, Tensor]]:
        """Pools the last block's tokens to the summary and cells by grid, before the final norm."""
        # of condensed tokens the first is the summary, and the others are means of cells already
        if spec.is_pooled(self.tower):
            return x[..., 0, :], split_cells(x[..., 1:, :], grid_sizes)
        # means in float32, as where cells are cached: both ways give the same features
        cells = {size: grid_means(x[..., 1:, :].float(), size) for size in grid_sizes}
        return self.tower.pool_tokens(x), cells

    @no_grad()
    def _frozen_features(
        self, prefix: Tensor, known: Tensor | None, spec: PrefixSpec, grid_sizes: GridSizes
    ) -> Features:
        """Computes the features of the tower without the adapter, from `known` where it is there.

        `known` is as from `frozen_spec`.
        """
        if known is None:
            x = finish_prefix(self.tower, spec, prefix, all_tokens=self.all_tokens)
            summary, cells = self._pool_tokens(x, spec, grid_sizes)
        else:
            summary, cells = known[..., 0, :], split_cells(known[..., 1:, :], grid_sizes)
        frames = self.tower.ln_post_exact(summary).float()
        grids = {size: self.tower.ln_post_exact(grid).float() for size, grid in cells.items()}
        return Features(frames, frames.mean(-2), grids)

    def _run_blocks(self, x: Tensor, first_block: int, class_token_only: bool) -> Tensor:
        """Runs the blocks from `first_block` on; of the last one perhaps the class token alone."""
        tower, adapter = self.tower, self.adapter
        if adapter.first_trained_block < 0:
            x = adapter.patch_embed(tower, x)
        if first_block == 0 and tower.layers:
            x = adapter.embed_tokens(tower, x)
        # a prediction is one pass per clip: compiling its shapes too would take longer
        compiles = self.compiles and is_grad_enabled()
        recompute = self.checkpointing and is_grad_enabled()
        for i in range(first_block, tower.layers):
            is_last = i == tower.layers - 1
            block = adapter.class_token_block if is_last and class_token_only else adapter.block
            if compiles:
                block = partial(run_compiled, block)
            if recompute:
                # nothing in a block is drawn at random, so no random state has to be kept
                x = checkpoint(
                    block, i, tower.blocks[i], x, use_reentrant=False, preserve_rng_state=False
                )
            else:
                x = block(i, tower.blocks[i], x)
        return x
