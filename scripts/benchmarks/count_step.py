"""Counts of a fine-tuning step without a device: kernels, bytes and operations of every adapter.

A step is the forward and backward pass of the adapted encoder with the loss on its clip features;
head and optimiser are left out. It runs on PyTorch's meta device, where tensors have a shape and no
values, with the choices of a CUDA device. So the figures are the same on every machine, and take
seconds. A kernel is an operation that is not a view; its bytes are those of its inputs and outputs.
Operations are multiplications and additions of matrix products and attention.

    python scripts/benchmarks/count_step.py --out results.json
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import click
import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from fewshot_i2v import registry
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.encoders import block
from fewshot_i2v.models.encoders.tower import Tower
from fewshot_i2v.tuning.contract.tiny_encoder import vit_b16
from fewshot_i2v.utils.environment import git_commit

_META = torch.device("meta")
# They launch nothing, and torch does not call them views.
_FREE = frozenset(
    {"_unsafe_view", "detach", "empty", "empty_like", "new_empty", "empty_strided", "promote_types"}
)


@dataclass
class StepCount:
    """Counts of one step.

    Attributes:
        kernels: operations that are not views.
        bytes: of their inputs and outputs.
        flop: multiplications and additions of matrix products and attention.
        by_operation: number of kernels by name.
    """

    kernels: int = 0
    bytes: int = 0
    flop: int = 0
    by_operation: Counter[str] = field(default_factory=Counter)


class _Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts every operation that is not a view."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.count = StepCount()

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401 - an operator of torch
        types: Any,  # noqa: ANN401
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = func._schema.name.split("::")[1]
        if func.is_view or name in _FREE:
            return result
        count, packet = self.count, func._overloadpacket
        count.kernels += 1
        count.by_operation[name] += 1
        tensors = [t for t in tree_leaves((args, kwargs, result)) if isinstance(t, Tensor)]
        count.bytes += sum(t.numel() * t.element_size() for t in tensors)
        if packet in flop_registry:
            count.flop += int(flop_registry[packet](*args, **kwargs, out_val=result))
        return result


class _FusedAttention(TorchFunctionMode):
    """Attention as the one kernel that it is on a CUDA device; the meta device has none."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,  # noqa: ANN401 - of torch
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        if func is functional.scaled_dot_product_attention:
            return torch.ops.aten._scaled_dot_product_flash_attention(*args)[0]
        return func(*args, **(kwargs or {}))


@contextmanager
def counting() -> Iterator[StepCount]:
    """Counts the operations on the meta device inside, with the choices of a CUDA device."""
    short = block._SHORT_SEQUENCE
    with (
        mock.patch.object(block, "_matmul_is_faster", lambda _q, k: k.shape[-2] <= short),
        _FusedAttention(),
        _Counting() as mode,
    ):
        yield mode.count


def count_step(
    tower: Tower,
    adapter: str,
    options: Mapping[str, Any] | None = None,
    *,
    episodes: int = 1,
    clips: int = 5,
    frames: int = 8,
    grid_sizes: tuple[int, ...] = (),
) -> StepCount:
    """Counts a step of fine-tuning.

    Args:
        tower: of any device; its shapes are used, its values never.
        adapter: name.
        options: of the adapter.
        episodes: side by side.
        clips: support clips of an episode.
        frames: of a clip.
        grid_sizes: grids of patch tokens that the loss reads, besides the clip features.
    """
    tower = tower.to(_META, torch.bfloat16)
    adapter_class = registry.load_method("adapters", adapter)
    parsed = adapter_class.parse(options or {})
    # the values drawn at first are drawn on the CPU, and only their shapes are needed
    with _META:
        built = adapter_class(tower, parsed, frames=frames, seeds=range(episodes)).to(_META)
    encoder, size = AdaptedEncoder(tower, built), tower.image_size
    pixels = torch.empty(episodes, clips, frames, 3, size, size, device=_META, dtype=tower.dtype)
    with torch.no_grad():
        prefix = encoder.compute_prefix(pixels, grid_sizes=grid_sizes)
    with counting() as count:
        features = encoder(prefix, grid_sizes=grid_sizes)
        loss = torch.stack([t.sum() for t in (features.clip, *features.grids.values())]).sum()
        torch.autograd.backward(loss)
    return count


def _render(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the table of counts as text."""
    lines = [f"{'adapter':<32}{'E':>3}{'kernels':>9}{'GB':>9}{'TFLOP':>9}"]
    lines += [
        f"{row['adapter']:<32}{row['episodes']:>3}{row['kernels']:>9}"
        f"{row['bytes'] / 1e9:>9.2f}{row['flop'] / 1e12:>9.3f}"
        for row in rows
    ]
    return "\n".join(lines)


def _specs(labels: Sequence[str]) -> list[tuple[str, str, dict[str, Any]]]:
    """Returns label, name and options of each adapter; by default of all that can be tuned."""
    names = labels or [n for n in registry.method_names("adapters") if n != "frozen"]
    presets = [(name, *name.partition(":preset=")[::2]) for name in names]
    return [(label, name, {"preset": p} if p else {}) for label, name, p in presets]


@click.command(help=__doc__)
@click.option("--adapter", multiple=True, help="NAME or NAME:preset=P; by default all.")
@click.option("--episodes", multiple=True, type=int, default=(1, 4), show_default=True)
@click.option("--shot", default=1, show_default=True, help="Clips of each of 5 classes.")
@click.option("--grid", type=int, help="Cells on a side of a grid that the loss reads.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the figures as JSON.")
def main(
    adapter: tuple[str, ...],
    episodes: tuple[int, ...],
    shot: int,
    grid: int | None,
    out: Path | None,
) -> None:
    """Counts every adapter on ViT-B/16; the module's docstring is its help."""
    tower, rows = vit_b16(), []
    for label, name, options in _specs(adapter):
        for count_of_episodes in episodes:
            count = count_step(
                tower,
                name,
                options,
                episodes=count_of_episodes,
                clips=5 * shot,
                grid_sizes=() if grid is None else (grid,),
            )
            rows.append(
                {
                    "adapter": label,
                    "episodes": count_of_episodes,
                    "kernels": count.kernels,
                    "bytes": count.bytes,
                    "flop": count.flop,
                    "by_operation": dict(count.by_operation.most_common()),
                }
            )
    click.echo(_render(rows))
    if out is not None:
        about = {
            "command": " ".join(["python", sys.argv[0], *(Path(a).name for a in sys.argv[1:])]),
            "commit": git_commit(),
            "torch": str(torch.__version__),
            "encoder": "ViT-B/16, 224 pixels, bfloat16",
            "shape": f"5-way {shot}-shot, 8 frames" + ("" if grid is None else f", grid{grid}"),
        }
        out.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
