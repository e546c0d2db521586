"""Counts of a fine-tuning step without a device: kernels, bytes and operations of every adapter.

A step is the forward and backward pass of the adapted encoder with the loss on its clip features;
head and optimiser are left out. It runs on PyTorch's meta device, where tensors have a shape and no
values, with the choices of a CUDA device. So the figures are the same on every machine, and take
seconds. A kernel is an operation that is not a view; its bytes are those of its inputs and outputs.
Operations are multiplications and additions of matrix products and attention.

    python scripts/benchmarks/count_step.py --waits --out results.json
    python scripts/benchmarks/count_step.py --without temporal-convolution --adapter st-adapter

`--without` counts as if a saving of the toolkit did not exist: what that part would be in plain
operations. `--waits` also tunes a tiny encoder on a pretended CUDA device, and counts how often the
host would wait for it in a step: with a linear head, a grid, augmentation, and mini-batches.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
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
from fewshot_i2v.models.adapters import full, lora, m_adapter, zeroi2v
from fewshot_i2v.models.adapters.base import layers
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
        work: of each kernel its name, bytes and operations, in order.
    """

    kernels: int = 0
    bytes: int = 0
    flop: int = 0
    by_operation: Counter[str] = field(default_factory=Counter)
    work: list[tuple[str, int, int]] = field(default_factory=list)


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
        size = sum(t.numel() * t.element_size() for t in tensors)
        known = flop_registry.get(packet)
        flop = 0 if known is None else int(known(*args, **kwargs, out_val=result))
        count.bytes += size
        count.flop += flop
        count.work.append((name, size, flop))
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
            return torch.ops.aten._scaled_dot_product_flash_attention(*args[:3])[0]
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


def _plain_taps(x: Tensor, bias: Tensor, *taps: Tensor) -> Tensor:
    """The temporal convolution as three multiply-adds of shifted views of padded frames."""
    padded, y = functional.pad(x, (0, 0, 0, 0, 1, 1)), bias
    for shift, tap in enumerate(taps):
        y = torch.addcmul(y, padded.narrow(2, shift, x.shape[2]), tap)
    return y


def _plain_shift(x: Tensor, offsets: Sequence[int]) -> Tensor:
    """The shift of heads, (E, clips, T, L, H, d), as slices that are joined again."""
    parts, start, frames = [], 0, x.shape[2]
    for offset, group in itertools.groupby(offsets):
        length = len(list(group))
        heads, distance = x.narrow(4, start, length), min(abs(offset), frames)
        start += length
        moved = frames - distance
        if offset > 0:
            heads = torch.cat([heads[:, :, distance:], heads[:, :, moved:]], 2)
        elif offset < 0:
            heads = torch.cat([heads[:, :, :distance], heads[:, :, :moved]], 2)
        parts.append(heads)
    return torch.cat(parts, 4)


def _plain_affine(
    x: Tensor, weight: Tensor, bias: Tensor, weight_scale: float, bias_scale: float
) -> Tensor:
    """The affine map of each episode with its factors inside the product."""
    rows, bias = x.flatten(1, -2), bias.to(x.dtype).unsqueeze(1)
    y = torch.baddbmm(bias, rows, weight.to(x.dtype), beta=bias_scale, alpha=weight_scale)
    return y.reshape(*x.shape[:-1], y.shape[-1])


def _plain_update(update: Any, y: Tensor, projected: Tensor) -> Tensor:  # noqa: ANN401 - of LoRA
    """LoRA's update with its factor inside the product."""
    up, base = update.up.to(y.dtype), y.flatten(1, -2)
    return torch.baddbmm(base, projected, up, alpha=update.scale).reshape(y.shape)


def _plain_normed_linear(norm: Any, linear: Any, x: Tensor) -> Tensor:  # noqa: ANN401
    """A layer norm with its scale and shift, and then the map."""
    y: Tensor = linear(norm(x))
    return y


def _with_all_tokens(build: Callable[..., None]) -> Callable[..., None]:
    def _build(encoder: AdaptedEncoder, *args: Any, **kwargs: Any) -> None:
        build(encoder, *args, **kwargs)
        encoder.all_tokens = True

    return _build


SAVINGS: dict[str, tuple[tuple[Any, str, Any], ...]] = {
    "class-token": ((AdaptedEncoder, "__init__", _with_all_tokens(AdaptedEncoder.__init__)),),
    "temporal-convolution": ((layers._ThreeTaps, "apply", _plain_taps),),
    "head-shift": ((zeroi2v._HeadShift, "apply", _plain_shift),),
    "scales": (
        *((room, "episode_affine", _plain_affine) for room in (layers, full)),
        (lora._LowRank, "add_update", _plain_update),
    ),
    "norms": ((m_adapter, "normed_linear", _plain_normed_linear),),
}
"""Savings of the toolkit that can be left out, and what is there instead."""


@contextmanager
def savings_left_out(names: Iterable[str]) -> Iterator[None]:
    """Computes the same in plain operations inside, where a saving is named."""
    with ExitStack() as stack:
        for owner, attribute, plain in (part for name in names for part in SAVINGS[name]):
            stack.enter_context(mock.patch.object(owner, attribute, plain))
        yield


def _encoder(
    tower: Tower,
    adapter: str,
    options: Mapping[str, Any] | None,
    frames: int,
    episodes: int,
) -> AdaptedEncoder:
    """Builds an adapted encoder on the meta device, in bfloat16."""
    tower = tower.to(_META, torch.bfloat16)
    adapter_class = registry.load_method("adapters", adapter)
    parsed = adapter_class.parse(options or {})
    # the values drawn at first are drawn on the CPU, and only their shapes are needed
    with _META:
        built = adapter_class(tower, parsed, frames=frames, seeds=range(episodes)).to(_META)
    return AdaptedEncoder(tower, built)


def count_step(
    tower: Tower,
    adapter: str,
    options: Mapping[str, Any] | None = None,
    *,
    episodes: int = 1,
    clips: int = 5,
    frames: int = 8,
    grid_sizes: tuple[int, ...] = (),
    without: Sequence[str] = (),
    prediction: bool = False,
) -> StepCount:
    """Counts a step of fine-tuning, or a prediction.

    Args:
        tower: of any device; its shapes are used, its values never.
        adapter: name.
        options: of the adapter.
        episodes: side by side.
        clips: support clips of an episode, or its query clips.
        frames: of a clip.
        grid_sizes: grids of patch tokens that the loss reads, besides the clip features.
        without: names of `SAVINGS` that are left out.
        prediction: whether nothing is computed but features, without gradients.
    """
    size = tower.image_size
    with savings_left_out(without):
        encoder = _encoder(tower, adapter, options, frames, episodes)
        shape = (episodes, clips, frames, 3, size, size)
        pixels = torch.empty(shape, device=_META, dtype=torch.bfloat16)
        with torch.no_grad():
            prefix = encoder.compute_prefix(pixels, grid_sizes=grid_sizes)
        with counting() as count, torch.set_grad_enabled(not prediction):
            features = encoder(prefix, grid_sizes=grid_sizes)
            if not prediction:
                parts = (features.clip, *features.grids.values())
                torch.autograd.backward(torch.stack([t.sum() for t in parts]).sum())
    return count


def _render(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the table of counts as text."""
    lines = [f"{'adapter':<32}{'E':>3}{'kernels':>9}{'GB':>9}{'TFLOP':>9}  waits of a step"]
    lines += [
        f"{row['adapter']:<32}{row['episodes']:>3}{row['kernels']:>9}"
        f"{row['bytes'] / 1e9:>9.2f}{row['flop'] / 1e12:>9.3f}  "
        + ", ".join(f"{case} {count}" for case, count in row.get("waits", {}).items())
        for row in rows
    ]
    return "\n".join(lines)


def _specs(labels: Sequence[str]) -> list[tuple[str, str, dict[str, Any]]]:
    """Returns label, name and options of each adapter; by default of all that can be tuned."""
    names = labels or [n for n in registry.method_names("adapters") if n != "frozen"]
    presets = [(name, *name.partition(":preset=")[::2]) for name in names]
    return [(label, name, {"preset": p} if p else {}) for label, name, p in presets]


def _rows(
    specs: Sequence[tuple[str, str, dict[str, Any]]],
    episodes: Sequence[int],
    *,
    waits: bool,
    **step: Any,
) -> Iterator[dict[str, Any]]:
    """Yields the figures of each adapter and number of episodes."""
    tower = vit_b16()
    for label, name, options in specs:
        waiting = {}
        if waits:
            from _waits import waits_of_a_step  # it needs the tests

            waiting = {"waits": waits_of_a_step(label)}
        for count_of_episodes in episodes:
            count = count_step(tower, name, options, episodes=count_of_episodes, **step)
            yield {
                "adapter": label,
                "episodes": count_of_episodes,
                "kernels": count.kernels,
                "bytes": count.bytes,
                "flop": count.flop,
                **waiting,
                "by_operation": dict(count.by_operation.most_common()),
            }


@click.command(help=__doc__)
@click.option("--adapter", multiple=True, help="NAME or NAME:preset=P; by default all.")
@click.option("--episodes", multiple=True, type=int, default=(1, 4), show_default=True)
@click.option("--shot", default=1, show_default=True, help="Clips of each of 5 classes.")
@click.option("--grid", type=int, help="Cells on a side of a grid that the loss reads.")
@click.option(
    "--without", multiple=True, type=click.Choice(list(SAVINGS)), help="A saving to leave out."
)
@click.option("--waits", is_flag=True, help="Also count the waits of a step.")
@click.option("--out", type=click.Path(path_type=Path), help="Write the figures as JSON.")
def main(
    adapter: tuple[str, ...],
    episodes: tuple[int, ...],
    shot: int,
    grid: int | None,
    without: tuple[str, ...],
    waits: bool,
    out: Path | None,
) -> None:
    """Counts every adapter on ViT-B/16; the module's docstring is its help."""
    step: dict[str, Any] = {"clips": 5 * shot, "without": without}
    step["grid_sizes"] = () if grid is None else (grid,)
    rows = list(_rows(_specs(adapter), episodes, waits=waits, **step))
    click.echo(_render(rows))
    if out is not None:
        about = {
            "command": " ".join(["python", sys.argv[0], *(Path(a).name for a in sys.argv[1:])]),
            "commit": git_commit(),
            "torch": str(torch.__version__),
            "encoder": "ViT-B/16, 224 pixels, bfloat16",
            "shape": f"5-way {shot}-shot, 8 frames" + ("" if grid is None else f", grid{grid}"),
            **({"without": list(without)} if without else {}),
        }
        out.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
