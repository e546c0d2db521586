"""The encoder that a frozen tower and an adapter make together."""

from __future__ import annotations

from torch import Tensor, is_grad_enabled, nn
from torch.utils.checkpoint import checkpoint

from fewshot_i2v.errors import AdapterError
from fewshot_i2v.models.adapters.base.adapter import Adapter
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.adapters.base.frozen_prefix import cell_means, read
from fewshot_i2v.models.encoders.tower import Tower


class AdaptedEncoder(nn.Module):
    """A frozen tower walked by an adapter.

    Args:
        tower: the frozen tower.
        adapter: built for it.

    Attributes:
        checkpointing: whether the backward pass computes each block again in place of keeping what
            happened inside it. The gradients are the same; memory is saved for time.
    """

    def __init__(self, tower: Tower, adapter: Adapter) -> None:
        super().__init__()
        skipped = [n for n in ("stem", "embed") if _has_own(adapter, n) and not _called(adapter, n)]
        if skipped:
            raise AdapterError(
                f"{type(adapter).__name__} has its own `{skipped[0]}`, which first_block="
                f"{adapter.first_block} skips: what lies below it is computed once, without it"
            )
        self.tower, self.adapter = tower, adapter
        self.checkpointing = False

    def prefix(self, pixels: Tensor, *, cells: int = 0) -> Tensor:
        """What never changes while the adapter is tuned; computed once per clip.

        Args:
            pixels: (..., T, 3, H, W), normalised.
            cells: cells on a side of the grid that will be asked for; 0: none.

        Returns:
            See `frozen_prefix.read`; axes of one clip in `Reading.shape`.

        Raises:
            AdapterError: when the tower has fewer patches on a side than `cells`.
        """
        return read(self.tower, self.adapter.reading(cells), pixels)

    def forward(self, kept: Tensor, *, cells: int = 0) -> Features:
        """Features of clips from their prefix.

        Args:
            kept: output of `prefix` with the same `cells` and the episode axis, (E, clips, ...).
            cells: cells on a side of the grid of patch tokens wanted; 0: none.

        Returns:
            The features, float32.

        Raises:
            AdapterError: when the adapter gets tokens of another number of episodes.
        """
        tower, adapter = self.tower, self.adapter
        reading = adapter.reading(cells)
        has_parameters = not reading.frozen_throughout(tower) or reading.levels
        if kept.shape[0] != adapter.episodes and has_parameters:
            raise AdapterError(
                f"got tokens of {kept.shape[0]} episodes, {tuple(kept.shape)}; this adapter "
                f"holds {adapter.episodes}: give tokens (E, clips, T, N + 1, D) with that E"
            )
        if reading.levels:
            x = adapter.side(tower, kept)
        else:
            x = self._blocks(kept, max(reading.first_block, 0))
        # of condensed tokens the first is the summary, and the others are means of cells already
        summary = x[..., 0, :] if reading.condensed(tower) else tower.summary(x)
        frames, clip = adapter.pool(tower, summary)
        grid = None
        if cells:
            patches = x[..., 1:, :]
            grid = adapter.final_norm(tower, cell_means(patches.float(), cells)).float()
        return Features(frames.float(), clip.float(), grid)

    def _blocks(self, x: Tensor, first: int) -> Tensor:
        """Through the blocks from `first` on."""
        tower, adapter = self.tower, self.adapter
        if adapter.first_block < 0:
            x = adapter.stem(tower, x)
        if first == 0 and tower.layers:
            x = adapter.embed(tower, x)
        again = self.checkpointing and is_grad_enabled()
        for i in range(first, tower.layers):
            if again:
                # nothing in a block is drawn at random, so no random state has to be kept
                x = checkpoint(
                    adapter.block, i, tower.blocks[i], x,
                    use_reentrant=False, preserve_rng_state=False,
                )  # fmt: skip
            else:
                x = adapter.block(i, tower.blocks[i], x)
        return x


def _has_own(adapter: Adapter, name: str) -> bool:
    return getattr(type(adapter), name) is not getattr(Adapter, name)


def _called(adapter: Adapter, name: str) -> bool:
    return adapter.first_block < (0 if name == "stem" else 1)
