"""Clips a second through the cache of decoded clips, against bare PyAV and bare decord.

    python scripts/benchmarks/bench_decode.py --root CLIPS --json results.json
    python scripts/benchmarks/bench_decode.py --quick

One process and one thread read 8 frames of each clip, at the centres of segments, at 224 pixels.
The bare readers do what one would write oneself: PyAV decodes from the start and converts the eight
frames, decord asks for eight frames; both resize with a filter of the decoder. CLIP's own way to
resize, Pillow's antialiased bicubic filter, costs more; a third bare reader has it. The cache looks
at the clip's packets, counts its frames, resizes as CLIP does, and writes the result durably (this
is "cold"), or reads it back ("warm": with its checksum the first time, without it the second). All
take turns within a round. Figures are of processor seconds. Without --root, clips are made on the
spot: H.264 of 320 x 240 pixels and 60 frames.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from time import process_time
from typing import Any

import av
import click
import numpy as np
from _about import about, write_report
from PIL import Image

from fewshot_i2v.data.video.clip_cache import ClipCache
from fewshot_i2v.data.video.frame_sampling import frame_indices
from fewshot_i2v.data.video.reader import DecodeOptions

FRAMES, SIZE = 8, 224


def write_clips(folder: Path, count: int) -> list[Path]:
    """Write clips of moving noise, and return their paths."""
    paths = []
    for number in range(count):
        noise = np.random.default_rng(number).integers(0, 255, (240, 320, 3), np.uint8)
        path = folder / f"clip-{number:03d}.mp4"
        with av.open(str(path), "w") as container:
            stream: Any = container.add_stream("libx264", rate=30)
            stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
            for i in range(60):
                picture = np.roll(noise, 4 * i, 1)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
        paths.append(path)
    return paths


def bare_pyav(path: Path) -> np.ndarray:
    """Read a clip as one would with PyAV alone."""
    with av.open(str(path)) as container:
        total = container.streams.video[0].frames
        wanted = set(frame_indices("segment-center", total, FRAMES).tolist())
        pictures = [
            frame.to_ndarray(width=SIZE, height=SIZE, format="rgb24")
            for i, frame in enumerate(container.decode(video=0))
            if i in wanted
        ]
    return np.stack(pictures)


def bare_clip_pixels(path: Path, size: int = SIZE) -> np.ndarray:
    """Read a clip with PyAV and resize it as CLIP does, (T, size, size, 3)."""
    with av.open(str(path)) as container:
        total = container.streams.video[0].frames
        wanted = set(frame_indices("segment-center", total, FRAMES).tolist())
        pictures = [
            resized(Image.fromarray(frame.to_ndarray(format="rgb24")), size)
            for i, frame in enumerate(container.decode(video=0))
            if i in wanted
        ]
    return np.stack(pictures)


def resized(image: Image.Image, size: int) -> np.ndarray:
    """Resize the short side and cut out the centre, (size, size, 3)."""
    short = round(size / DecodeOptions().crop)
    factor = short / min(image.size)
    width, height = (round(side * factor) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    larger = image.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(larger.crop((left, top, left + size, top + size)))


def bare_decord(path: Path) -> np.ndarray:
    """Read a clip as one would with decord alone."""
    import decord

    reader = decord.VideoReader(str(path), width=SIZE, height=SIZE, num_threads=1)
    pictures: np.ndarray = reader.get_batch(
        frame_indices("segment-center", len(reader), FRAMES)
    ).asnumpy()
    return pictures


def seconds_of(work: Callable[[], object]) -> float:
    """Measure processor seconds of a call."""
    start = process_time()
    work()
    return process_time() - start


def measure_round(paths: Sequence[Path], folder: Path) -> dict[str, float]:
    """Measure each way of reading all clips once, in processor seconds."""
    cache = ClipCache(folder, DecodeOptions(frames=FRAMES, size=SIZE), workers=0)

    def _cold() -> None:
        failures = cache.prepare(paths)
        if failures:
            raise click.ClickException(str(next(iter(failures.values()))))

    def _read_all() -> None:
        for path in paths:
            cache.get(path)

    return {
        "bare PyAV": seconds_of(lambda: [bare_pyav(path) for path in paths]),
        "bare PyAV, resized as CLIP does": seconds_of(
            lambda: [bare_clip_pixels(path) for path in paths]
        ),
        "bare decord": seconds_of(lambda: [bare_decord(path) for path in paths]),
        "cache, cold": seconds_of(_cold),
        "cache, warm, checked": seconds_of(_read_all),
        "cache, warm": seconds_of(_read_all),
    }


def _summary(name: str, turns: Sequence[dict[str, float]], clips: int) -> dict[str, float]:
    """Summarise the rounds of a way of reading, beside bare readers of the same round."""
    same_pixels = "bare PyAV, resized as CLIP does"
    faster = [min(turn["bare PyAV"], turn["bare decord"]) / turn[name] for turn in turns]
    return {
        "clips_per_second": round(clips / median(turn[name] for turn in turns), 2),
        "ratio_to_faster_bare": round(median(faster), 3),
        "ratio_to_same_resizing": round(median(t[same_pixels] / t[name] for t in turns), 3),
    }


@click.command(help=__doc__)
@click.option("--root", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--clips", default=40, show_default=True, help="Clips that are read, or made.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--quick", is_flag=True, help="6 clips, 3 rounds.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the figures.")
def main(root: Path | None, clips: int, rounds: int, quick: bool, file: Path | None) -> None:
    """Run the benchmark; the module's docstring is its help."""
    clips, rounds = (6, 3) if quick else (clips, rounds)
    with tempfile.TemporaryDirectory() as work:
        every = [] if root is None else sorted(root.rglob("*.mp4"))
        paths = every[:: max(1, len(every) // clips)][:clips] or write_clips(Path(work), clips)
        turns = [measure_round(paths, Path(work) / f"cache-{i}") for i in range(rounds + 1)][1:]
    rows = {name: _summary(name, turns, len(paths)) for name in turns[0]}
    report = {"about": about(), "clips": len(paths), "rows": rows}
    click.echo(json.dumps(rows, indent=1))
    write_report(file, report)


if __name__ == "__main__":
    main()
