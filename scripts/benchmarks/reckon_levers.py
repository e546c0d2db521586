"""Reckons 10,000 tuned episodes on an H200, lever by lever; nothing has run on CUDA.

    python scripts/benchmarks/reckon_levers.py --json results.json

Kernels, bytes and operations are counted by `count_step.py`, with and without each saving of the
toolkit. A kernel takes the longest of three times: its operations at 0.87 of 790 TFLOP/s, a rate
of matrix products in bfloat16 that was measured on an H200; its bytes at 0.85 of 4.3 TB/s, the
rate of a copy measured there; and 2.2 microseconds. (The data sheet has 989 TFLOP/s and 4.8
TB/s.) Attention runs at 190 TFLOP/s forward and 160 backward. The host starts a kernel in 6
microseconds. An episode of ViT-B/16, 224 pixels, 8 frames, 5-way 1-shot is 30 steps and 25 query
clips, four episodes side by side. AdamW moves 30 bytes a value. Before the host worked beside the
GPU, drawing the values of ST-Adapter and copying them took 26 ms an episode.

The share is that of 790 TFLOP/s, with the operations of an episode in which nothing is left out.
The plain loop is counted likewise, one episode at a time with the patch embedding in every step: in
float32 at 0.87 of 67 TFLOP/s, with TF32 at 0.87 of 494 (data sheet, dense). Its grouped convolution
is taken as one pass over the memory, which cuDNN hardly reaches.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import torch
from _about import about, write_report
from _plain_loop import PlainVideoEncoder
from count_step import SAVINGS, count_step, counting
from open_clip.transformer import VisionTransformer

from fewshot_i2v import registry
from fewshot_i2v.models.adapters.base.layers import TemporalDepthwiseConv
from fewshot_i2v.tuning.contract.tiny_encoder import vit_b16

Work = Sequence[tuple[str, int, int]]
"""Name, bytes and operations of each kernel."""

EPISODES, STEPS, SUPPORT, QUERY, FRAMES, AT_ONCE = 10_000, 30, 5, 25, 8, 4
MATMUL = 790e12
AIMS = {"minutes": 35, "share": 0.60, "ratio": 20}
_SHARE_OF_PRODUCTS, _SHARE_OF_COPIES, _COPY = 0.87, 0.85, 4.3e12
_LAUNCH, _HOST, _ADAMW_BYTES = 2.2e-6, 6e-6, 30
_ATTENTION = {
    "_scaled_dot_product_flash_attention": 190e12,
    "_scaled_dot_product_flash_attention_backward": 160e12,
}
_SERIAL_HOST = 0.026
_LOOP_RATES = {"fp32": 67e12, "tf32": 494e12}
_META = torch.device("meta")


def kernel_seconds(work: Work, matmul: float = MATMUL, attention: float | None = None) -> float:
    """Reckon the seconds of kernels one after the other, or of the host that starts them.

    Args:
        work: the kernels.
        matmul: FLOP/s of matrix products.
        attention: FLOP/s of attention; None: those of bfloat16.
    """
    seconds = 0.0
    for name, size, flop in work:
        rate = _SHARE_OF_PRODUCTS * matmul
        if name in _ATTENTION:
            rate = attention or _ATTENTION[name]
        seconds += max(flop / rate, size / (_SHARE_OF_COPIES * _COPY), _LAUNCH)
    return max(seconds, _HOST * len(work))


@dataclass(frozen=True)
class Position:
    """Where a way of computing stands.

    Attributes:
        lever: what was added last.
        done: whether the toolkit has it.
        kernels: of a step of four episodes.
        gigabytes: of a step, an episode.
        tflop: likewise.
        step_ms: of a step of four episodes.
        minutes: of 10,000 episodes.
        share: of 790 TFLOP/s.
        ratio: to the plain loop in float32.
    """

    lever: str
    done: bool
    kernels: int
    gigabytes: float
    tflop: float
    step_ms: float
    minutes: float
    share: float
    ratio: float


@dataclass(frozen=True)
class Method:
    """An adapter, and what its plain loop and its episode cost.

    Attributes:
        name: of the adapter.
        nominal: operations of an episode in which nothing is left out.
        loop: seconds of an episode of the plain loop in float32; None: it has no such method.
        parameters: of an episode.
    """

    name: str
    nominal: float
    loop: float | None
    parameters: int

    def position(self, lever: str, step: Work, query: Work, *, host: float, done: bool) -> Position:
        """Reckon 10,000 episodes from the kernels of a step and of a prediction of 25 clips."""
        tuning = kernel_seconds(step)
        tuning += AT_ONCE * self.parameters * _ADAMW_BYTES / (_SHARE_OF_COPIES * _COPY)
        episode = (STEPS * tuning + kernel_seconds(query)) / AT_ONCE + host
        return Position(
            lever,
            done,
            len(step),
            round(sum(size for _, size, _ in step) / AT_ONCE / 1e9, 1),
            round(sum(flop for *_, flop in step) / AT_ONCE / 1e12, 2),
            round(1e3 * tuning, 1),
            round(EPISODES * episode / 60, 1),
            round(self.nominal / episode / MATMUL, 2),
            round((self.loop or 0) / episode, 1),
        )


def work_of(adapter: str, without: Sequence[str] = ()) -> tuple[Work, Work]:
    """Count a step of four episodes, and the prediction of their query clips."""
    step, query = (
        count_step(
            vit_b16(), adapter, episodes=AT_ONCE, clips=clips, without=without, prediction=last
        )
        for clips, last in ((SUPPORT, False), (QUERY, True))
    )
    return step.work, query.work


def nominal_flop(step: Work, query: Work) -> float:
    """Count the operations of an episode; attention's backward pass is twice its forward pass.

    The counter of PyTorch adds what the fused kernel computes again.
    """
    backward = "_scaled_dot_product_flash_attention_backward"
    parts = [flop * (0.8 if name == backward else 1) for name, _, flop in step]
    return (STEPS * sum(parts) + sum(flop for *_, flop in query)) / AT_ONCE


def plain_loop_work(method: str) -> tuple[Work, Work]:
    """Count a step of the plain loop, and its prediction of five clips, in float32."""
    with _META:
        visual = VisionTransformer(224, 16, 768, 12, 12, 4.0, output_dim=768)
        half = torch.empty(3)
        encoder = PlainVideoEncoder(visual, method, FRAMES, half, half)
        clips = torch.empty(SUPPORT, FRAMES, 224, 224, 3, dtype=torch.uint8)
    with counting() as step:
        torch.autograd.backward(encoder(clips).sum())
    with counting() as query, torch.no_grad():
        encoder(clips)
    return step.work, query.work


def loop_seconds(method: str, precision: str) -> float:
    """Reckon an episode of the plain loop."""
    rate = _LOOP_RATES[precision]
    # fused attention in float32 uses no tensor cores; with TF32 it runs as the products do
    times = [
        kernel_seconds(work, rate, _SHARE_OF_PRODUCTS * rate) for work in plain_loop_work(method)
    ]
    return STEPS * times[0] + QUERY / SUPPORT * times[1]


def method_of(name: str, plain: Sequence[Work]) -> Method:
    """Describe an adapter, from the kernels that nothing is left out of."""
    adapter = registry.load_method("adapters", name)
    with _META:
        built = adapter(vit_b16().to(_META, torch.bfloat16), adapter.parse({}), frames=8, seeds=[0])
    count = sum(p.numel() for p in built.parameters())
    has_loop = name in ("st-adapter", "aim", "zeroi2v", "adaptformer")
    loop = loop_seconds(name, "fp32") if has_loop else None
    return Method(name, nominal_flop(*plain), loop, count)


def _fused_convolution(work: Work, clips: int, *, backward: bool) -> Work:
    """Replace the kernels of each temporal convolution by one each way; the last block has none."""
    tower = vit_b16()
    shape = (AT_ONCE, clips, FRAMES, tower.tokens, tower.width // 2)
    with _META:
        layer = TemporalDepthwiseConv(AT_ONCE, tower.width // 2)
        x = torch.empty(shape, dtype=torch.bfloat16, requires_grad=backward)
        gradient = torch.empty(shape, dtype=torch.bfloat16)
    with counting() as count, torch.set_grad_enabled(backward):
        y = layer(x)
        if backward:
            torch.autograd.backward(y, gradient)
    size = x.numel() * x.element_size()
    # reads and writes tokens; reads tokens and gradient, and writes a gradient
    fused = [("one kernel", 2 * size, 0), *([("one kernel", 3 * size, 0)] if backward else [])]
    sites = tower.layers - 1
    return [*_without(work, sites * count.work), *(sites * fused)]


def _without(work: Work, left_out: Work) -> list[tuple[str, int, int]]:
    """Remove kernels of the same name, bytes and operations."""
    kept = list(work)
    for kernel in left_out:
        if kernel not in kept:
            raise click.ClickException(f"a step has no {kernel}; the method has changed")
        kept.remove(kernel)
    return kept


def _gelu_in_products(work: Work) -> Work:
    """Leave out the passes that an activation inside the product before or after it saves.

    Of the two forward, reading the product; of the three backward, all but reading its input.
    """
    saved = {"gelu": 1 / 2, "gelu_backward": 1 / 3}
    return [(name, int(size * saved.get(name, 1)), flop) for name, size, flop in work]


def _without_first_attention(work: Work, clips: int) -> Work:
    """Leave out what comes before the first adapter, which is the same in every step."""
    tower = vit_b16().to(_META, torch.bfloat16)
    x = torch.empty(AT_ONCE, clips, FRAMES, tower.tokens, tower.width, device=_META).bfloat16()
    frozen = tower.blocks[0]
    with counting() as before, torch.no_grad():
        x + frozen.self_attention(frozen.ln_1(x))
    return _without(work, before.work)


def st_adapter_positions() -> list[Position]:
    """Reckon ST-Adapter as it was at first, with each saving of the toolkit, and with more."""
    name, conv = "st-adapter", "temporal-convolution"
    plain, no_host = work_of(name, list(SAVINGS)), 0.0
    method = method_of(name, plain)
    with_conv = work_of(name, [saving for saving in SAVINGS if saving != conv])
    now = work_of(name)
    fused = (
        _fused_convolution(now[0], SUPPORT, backward=True),
        _fused_convolution(now[1], QUERY, backward=False),
    )
    gelu = _gelu_in_products(fused[0]), _gelu_in_products(fused[1])
    first = _without_first_attention(gelu[0], SUPPORT), _without_first_attention(gelu[1], QUERY)
    rows = [
        ("as at first", plain, _SERIAL_HOST, True),
        ("the host works beside the GPU", plain, no_host, True),
        ("backward pass of the temporal convolution", with_conv, no_host, True),
        ("last block for the class token alone: **today**", now, no_host, True),
        ("temporal convolution as one kernel each way", fused, no_host, False),
        ("GELU inside the products", gelu, no_host, False),
        ("block 0 up to its adapter cached", first, no_host, False),
    ]
    return [method.position(row, *work, host=host, done=done) for row, work, host, done in rows]


def adapter_positions() -> dict[str, list[Position]]:
    """Reckon every adapter without and with the savings, with the host beside the GPU."""
    positions = {}
    for name in registry.method_names("adapters"):
        if name == "frozen":
            continue
        plain, now = work_of(name, list(SAVINGS)), work_of(name)
        method = method_of(name, plain)
        positions[name] = [
            method.position(row, *work, host=0.0, done=True)
            for row, work in (("before", plain), ("today", now))
        ]
    return positions


def lever_lines(rows: Iterable[Position]) -> list[str]:
    """Write the rows of the table of levers."""
    return [
        f"| {row.lever} | {'yes' if row.done else 'no'} | {row.kernels:,} | {row.gigabytes} | "
        f"{row.tflop:.2f} | {row.step_ms} | {row.minutes} | {100 * row.share:.0f} % | {row.ratio} |"
        for row in rows
    ]


def adapter_lines(positions: Mapping[str, Sequence[Position]]) -> list[str]:
    """Write the rows of the table of adapters: before and today."""
    lines = []
    for name, (before, now) in positions.items():
        ratios = f"{before.ratio}, {now.ratio}" if now.ratio else "-"
        lines.append(
            f"| {name} | {before.minutes}, {now.minutes} | "
            f"{100 * before.share:.0f}, {100 * now.share:.0f} % | {ratios} |"
        )
    return lines


@click.command(help=__doc__)
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the figures.")
def main(file: Path | None) -> None:
    """Print the rows of both tables; see the top of this file."""
    levers, adapters = st_adapter_positions(), adapter_positions()
    click.echo("\n".join([*lever_lines(levers), "", *adapter_lines(adapters)]))
    loops = {rate: loop_seconds("st-adapter", rate) for rate in _LOOP_RATES}
    report = {
        "about": about() | {"device": "none: reckoned for an H200"},
        "aims": AIMS,
        "seconds_of_the_plain_loop": loops,
        "st-adapter": [asdict(row) for row in levers],
        "adapters": {name: [asdict(row) for row in rows] for name, rows in adapters.items()},
    }
    write_report(file, report)


if __name__ == "__main__":
    main()
