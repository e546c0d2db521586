"""Clips a second that one process reads, of a folder and of a long 720p clip made on the spot.

    python scripts/benchmarks/bench_reading.py --root CLIPS

Each clip is read as `evaluate` reads it: 8 frames at the centres of segments, 224 pixels, probe
included, without the store. Prints one JSON object with the seconds of CPU time, `--repeats` times,
and clips a second at their median.
"""

from __future__ import annotations

import json
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import process_time
from typing import Any

import av
import click
import numpy as np
from _about import about

from fewshot_i2v.data.video.reader import DecodeOptions, decode


def write_720p(path: Path, frames: int) -> None:
    """Write H.264 of 1280 x 720 pixels with a key frame every two seconds, as phones do."""
    noise = np.random.default_rng(0).integers(0, 60, (720, 1280, 3), np.uint8)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = 1280, 720, "yuv420p"
        stream.options = {"preset": "veryfast", "g": "60"}
        for number in range(frames):
            picture = np.roll(noise, 3 * number, 1)
            picture[200:500, 4 * number % 900 :][:, :300] += 120
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def measured_reading(paths: Sequence[Path], repeats: int) -> dict[str, Any]:
    """CPU seconds to read clips in this process, and clips a second at the median."""
    taken = []
    for _ in range(repeats):
        start = process_time()
        for path in paths:
            decode(path, DecodeOptions())
        taken.append(round(process_time() - start, 3))
    speed = len(paths) / statistics.median(taken)
    return {"clips": len(paths), "cpu_seconds": taken, "clips_per_second": round(speed, 2)}


@click.command()
@click.option("--root", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--frames", default=900, help="Frames of the clip made on the spot.")
@click.option("--repeats", default=5)
def main(root: Path | None, frames: int, repeats: int) -> None:
    """Measure reading; see the top of this file."""
    report: dict[str, Any] = {"about": about(libraries=("av",))}
    if root is not None:
        report["folder"] = measured_reading(sorted(root.rglob("*.mp4")), repeats)
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "made.mp4"
        write_720p(clip, frames)
        report[f"{frames} frames of 720p"] = measured_reading([clip], repeats)
    click.echo(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
