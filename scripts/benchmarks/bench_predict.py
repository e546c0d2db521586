"""Clips a second of `predict` against a bare loop, and one long video: memory, speed, segments.

    python scripts/benchmarks/bench_predict.py --root CLIPS --json results.json
    python scripts/benchmarks/bench_predict.py --quick

The bare loop is what one would write oneself: PyAV decodes a clip from its start, Pillow resizes 8
frames as CLIP does, and open_clip's own image tower encodes 16 clips at a time in the precision of
the toolkit. It has no head, checks nothing and writes nothing. `predict` begins with an empty cache
("new clips"), then has the features on disk ("seen clips"). All take turns within a round; ratios
are medians of those within a round, of processor seconds. CLIPS has a folder per class; without it
clips are generated.

Then clips of `motions` are joined to a video of --minutes with pauses in which nothing moves, and
`fewshot-i2v predict --window 2 --stride 0.5` runs on it in a process of its own, whose memory is
looked at while it runs. Its segments are compared with the truth, moment by moment.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter, process_time, sleep, thread_time
from typing import Any

import av
import click
import numpy as np
import torch
from _about import about, write_report
from bench_decode import bare_clip_pixels
from bench_frozen import refuse_idle_parts, timed
from bench_tuning import ENCODERS, Workload

from fewshot_i2v import FewShotClassifier
from fewshot_i2v.data.splits.split import Generator
from fewshot_i2v.data.synthetic.generate import class_names, write_missing_clips
from fewshot_i2v.data.video.clip_cache import ClipCache
from fewshot_i2v.data.video.feature_files import FeatureFiles
from fewshot_i2v.evaluation.clip_scorer import ClipScorer
from fewshot_i2v.models.prefix_store import PrefixStore
from fewshot_i2v.utils.environment import has_bfloat16_products

FRAMES, CLIPS_AT_ONCE, FITTED = 8, 16, 4
HEAD = "prototype:pooling=ordered,center=true,tokens=grid4+motion"
CPU = torch.device("cpu")
MOTIONS = Generator("motions", seed=0, size=64, frames=16, fps=8, clips=60)
MOTION_CLASSES = ("moves-up", "moves-down", "spirals-in", "spirals-out", "come-together")
FITTED_MOTIONS, WINDOW, STRIDE = 20, 2.0, 0.5
PARTS: dict[str, list[tuple[Any, str]]] = {
    "decoding": [(ClipCache, "prepare")],
    "encoding": [(PrefixStore, "_compute")],
    "features to disk": [(FeatureFiles, "write")],
    "features from disk": [(FeatureFiles, "read")],
    "head": [(ClipScorer, "_classify")],
}
"""Functions that do the parts of `predict`."""


def class_folders(folder: Path) -> dict[str, list[Path]]:
    """List the clips of each class of a folder."""
    return {f.name: sorted(f.glob("*.mp4")) for f in sorted(folder.iterdir()) if f.is_dir()}


def generated_clips(folder: Path, classes: Sequence[str], clips: int) -> dict[str, list[Path]]:
    """Write clips of `motions`, a folder per class."""
    names = [f"{name}/{name}-{i:03}.mp4" for name in classes for i in range(clips)]
    write_missing_clips(MOTIONS, names, folder)
    return class_folders(folder)


def fitted_model(
    clips: Mapping[str, Sequence[Path]], encoder: Mapping[str, Any], work: Path, per_class: int
) -> Path:
    """Fit a model of the frozen encoder to the first clips of each class."""
    labelled = [(path, name) for name, paths in clips.items() for path in paths[:per_class]]
    model = FewShotClassifier(encoder=dict(encoder), head=HEAD, cache=str(work / "fit"), workers=1)
    model.fit(*(list(column) for column in zip(*labelled, strict=True)))
    file = work / "model.safetensors"
    model.save(file)
    return file


def bare_clip(path: Path, size: int) -> np.ndarray:
    """Read a clip with PyAV, resized as CLIP does, (T, 3, size, size) float32."""
    pixels = bare_clip_pixels(path, size).astype(np.float32) / 255
    return (pixels.transpose(0, 3, 1, 2) - 0.5) / 0.5


@torch.inference_mode()
def bare_loop(paths: Sequence[Path], tower: torch.nn.Module, size: int) -> dict[str, float]:
    """Decode and encode clips; processor seconds of both."""
    seconds = {"decoding": 0.0, "encoding": 0.0}
    dtype = next(tower.parameters()).dtype
    for first in range(0, len(paths), CLIPS_AT_ONCE):
        start = process_time()
        chunk = paths[first : first + CLIPS_AT_ONCE]
        clips = np.concatenate([bare_clip(path, size) for path in chunk])
        decoded = process_time()
        tower(torch.from_numpy(clips).to(dtype))
        seconds["decoding"] += decoded - start
        seconds["encoding"] += process_time() - decoded
    return seconds


def predict_round(file: Path, paths: Sequence[Path], cache: Path) -> dict[str, dict[str, float]]:
    """Predict clips with an empty cache, and again; processor seconds in all and of the parts."""
    model, turns = FewShotClassifier.load(file, cache=cache, workers=0), {}
    for name in ("new clips", "seen clips"):
        with timed(PARTS, clock=thread_time) as parts:
            start = process_time()
            failed = [p.path for p in model.iterate(paths) if p.error is not None]
            total = process_time() - start
        if failed:
            raise click.ClickException(f"{failed[0]}: cannot be read")
        turns[name] = {"all": total, **{part: parts[part] for part in PARTS}}
    return turns


def compare_with_bare(
    file: Path, paths: Sequence[Path], tower: torch.nn.Module, size: int, rounds: int, work: Path
) -> dict[str, Any]:
    """Measure `predict` and the bare loop in turns."""
    bare, turns = [], []
    for number in range(rounds + 1):  # the first is not counted
        bare.append(bare_loop(paths, tower, size))
        turns.append(predict_round(file, paths, work / f"cache-{number}"))
    bare, turns = bare[1:], turns[1:]
    refuse_idle_parts(
        {part: sum(s[part] for turn in turns for s in turn.values()) for part in PARTS}
    )
    whole = [sum(seconds.values()) for seconds in bare]
    result: dict[str, Any] = {
        "clips": len(paths),
        "rounds": rounds,
        "bare loop": {
            "clips_per_second": len(paths) / median(whole),
            "seconds_of_parts": {k: median(turn[k] for turn in bare) for k in bare[0]},
        },
    }
    for name in turns[0]:
        seconds = [turn[name] for turn in turns]
        result[name] = {
            "clips_per_second": len(paths) / median(s["all"] for s in seconds),
            "ratio_to_bare": median(b / s["all"] for b, s in zip(whole, seconds, strict=True)),
            "seconds_of_parts": {k: median(s[k] for s in seconds) for k in PARTS},
        }
    return _rounded(result)


def _rounded(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Round the numbers of a tree of figures."""

    def _round(value: object) -> object:
        if isinstance(value, dict):
            return _rounded(value)
        return round(value, 3) if isinstance(value, float) else value

    return {key: _round(value) for key, value in figures.items()}


def join_clips(
    clips: Mapping[str, Sequence[Path]], minutes: float, file: Path
) -> list[tuple[float, float, str]]:
    """Join clips in random order to a video, with pauses of 1 to 4 s in which nothing moves.

    Returns:
        Start and end in seconds and class of each clip in it.
    """
    generator, fps = random.Random(0), MOTIONS.fps
    pictures = {
        path: [frame.to_ndarray(format="rgb24") for frame in av.open(str(path)).decode(video=0)]
        for paths in clips.values()
        for path in paths
    }
    truth, n = [], 0
    with av.open(str(file), "w") as container:
        stream: Any = container.add_stream("libx264", rate=fps)
        stream.width = stream.height = MOTIONS.size
        stream.pix_fmt, stream.options = "yuv420p", {"preset": "ultrafast"}
        while n < minutes * 60 * fps:
            name = generator.choice(sorted(clips))
            frames = pictures[generator.choice(clips[name])]
            truth.append((n / fps, (n + len(frames)) / fps, name))
            pause = [frames[-1]] * generator.randint(fps, 4 * fps)
            for picture in (*frames, *pause):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                container.mux(stream.encode(frame))
            n += len(frames) + len(pause)
        container.mux(stream.encode())
    return truth


def watched(command: Sequence[str], output: Path) -> dict[str, Any]:
    """Run a command; its seconds by the clock, and its memory in MiB once a second."""
    start, memory = perf_counter(), []
    with output.open("wb") as file, subprocess.Popen(command, stdout=file) as process:
        status = Path(f"/proc/{process.pid}/statm")
        while process.poll() is None:
            if status.exists() and (text := status.read_text().split()):
                memory.append(int(text[1]) * 4096 / 2**20)
            sleep(1)
    if process.returncode:
        raise click.ClickException(f"{command[3]}: exit status {process.returncode}")
    return {"seconds": perf_counter() - start, "memory_mib": memory}


def compare_with_truth(
    segments: Sequence[Mapping[str, Any]], truth: Sequence[tuple[float, float, str]]
) -> dict[str, float]:
    """Compare segments with the truth, ten times a second.

    Returns:
        Share of the time in clips with the right class, with another class, and of the time in
        pauses with none.
    """
    times = np.arange(0, max(segment["end"] for segment in segments), 0.1)
    found = np.full(len(times), "", dtype=object)
    expected = found.copy()
    for s in segments:
        found[(times >= s["start"]) & (times < s["end"])] = s["class"] or ""
    for start, end, name in truth:
        expected[(times >= start) & (times < end)] = name
    is_clip = expected != ""
    return {
        "time_in_clips_right": float((found == expected)[is_clip].mean()),
        "time_in_clips_of_another_class": float(
            ((found != expected) & (found != ""))[is_clip].mean()
        ),
        "time_in_pauses_none": float((found == "")[~is_clip].mean()),
    }


def long_video(minutes: float, work: Path) -> dict[str, Any]:
    """Measure `predict --window` on one long video."""
    work.mkdir()
    clips = generated_clips(work / "clips", MOTION_CLASSES, FITTED_MOTIONS + 10)
    file = fitted_model(clips, {"name": "demo"}, work, FITTED_MOTIONS)
    others = {name: paths[FITTED_MOTIONS:] for name, paths in clips.items()}
    video, output = work / "long.mp4", work / "segments.jsonl"
    truth = join_clips(others, minutes, video)
    command = [sys.executable, "-P", "-m", "fewshot_i2v", "predict", str(file), str(video)]
    command += ["--window", str(WINDOW), "--stride", str(STRIDE)]
    run = watched(command, output)
    memory = run.pop("memory_mib")
    segments = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    later = memory[len(memory) // 10 :]
    return _rounded(
        {
            "minutes": minutes,
            "seconds": run["seconds"],
            "seconds_of_video_a_second": minutes * 60 / run["seconds"],
            "peak_mib": max(memory, default=None),
            "growth_mib_after_a_tenth": later[-1] - later[0] if later else None,
            "memory_mib": [round(m) for m in memory[:: max(1, len(memory) // 20)]],
            "clips": len(truth),
            "segments": len(segments),
            **compare_with_truth(segments, truth),
        }
    )


@click.command(help=__doc__)
@click.option("--root", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--encoder", type=click.Choice(tuple(ENCODERS)), default="ViT-Ti-16")
@click.option("--size", default=112, show_default=True, help="Pixels on a side.")
@click.option("--rounds", default=5, show_default=True)
@click.option("--minutes", default=60.0, show_default=True, help="Of the video; 0: none.")
@click.option("--quick", is_flag=True, help="Few generated clips, one round, one minute.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the figures.")
def main(
    root: Path | None,
    encoder: str,
    size: int,
    rounds: int,
    minutes: float,
    quick: bool,
    file: Path | None,
) -> None:
    """Run the benchmark; the module's docstring is its help."""
    rounds, minutes = (1, min(minutes, 1.0)) if quick else (rounds, minutes)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if root is None:
            clips = generated_clips(work / "made", class_names("motions")[:5], FITTED + 2)
        else:
            clips = class_folders(root)
        workload = Workload(encoder, size, CPU, work, 1, 1, 0)
        model = fitted_model(clips, workload.encoder_keys(), work, FITTED)
        dtype = torch.bfloat16 if has_bfloat16_products(CPU) else torch.float32
        tower = workload.plain_tower().to(dtype).eval()
        paths = [path for members in clips.values() for path in members]
        rows = compare_with_bare(model, paths, tower, size, rounds, work)
        report: dict[str, Any] = {"about": about(CPU), "encoder": encoder, "size": size}
        report |= {"precision": str(dtype).removeprefix("torch."), "clips": rows}
        if minutes:
            report["long_video"] = long_video(minutes, work / "long")
    click.echo(json.dumps(report, indent=1))
    write_report(file, report)


if __name__ == "__main__":
    main()
