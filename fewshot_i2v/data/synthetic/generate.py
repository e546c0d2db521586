"""Generated clips of moving shapes: data that needs no download and no permission.

Three generators:

* `motions`: the class is the kind of motion. Shape, texture, colour, size, position, direction
  where the class leaves it open, and background are random and independent of the class. Most
  classes come in pairs, each the other played backwards, so that no single frame, and no average
  over frames, distinguishes them.
* `shapes`: the class is the object that moves, a shape with a texture. The motion is random.
* `motion-world`: the class is the kind of motion, of many more kinds and in richer scenes: bodies
  of many forms, some with limbs, on textured backdrops, before cameras of which half move
  (`fewshot_i2v.data.synthetic.world`).

A clip is a pure function of the generator's name and version, the seed, the class and its number.
"""

from __future__ import annotations

import io
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import cast

import numpy as np
from numpy.typing import NDArray

from fewshot_i2v.data.splits.split import Generator
from fewshot_i2v.data.synthetic.motions import (
    MOTIONS,
    TWO_OBJECT_MOTIONS,
    Track,
    random_tracks,
    static_track,
)
from fewshot_i2v.data.synthetic.scene import (
    BACKGROUNDS,
    Appearance,
    paint_frames,
    random_appearance,
    random_backdrop,
)
from fewshot_i2v.data.synthetic.shapes import SHAPES, TEXTURES, KeyedRandom, Pixels
from fewshot_i2v.data.synthetic.world.kinds import WORLD_MOTIONS
from fewshot_i2v.data.synthetic.world.paint import render_world_scene
from fewshot_i2v.data.synthetic.world.scene import WORLD, random_world_scene
from fewshot_i2v.errors import DiskError, UnknownNameError, UsageError
from fewshot_i2v.utils.files import remove_stale_files, sync_folder, write_shared

VERSION = 1
"""Raised with every change of the pixels that `motions` and `shapes` give."""

_SHAPE_CLASSES = {f"{t}-{s}": (s, t) for s in SHAPES for t in TEXTURES}
_CLASS_NAMES: dict[str, tuple[str, ...]] = {
    "motions": MOTIONS,
    "shapes": tuple(sorted(_SHAPE_CLASSES)),
    WORLD: WORLD_MOTIONS,
}
GENERATORS = tuple(_CLASS_NAMES)
"""Names of the generators."""
_SHAPE_MOTIONS = tuple(n for n in MOTIONS if n not in TWO_OBJECT_MOTIONS)
_CLIP_NAME = re.compile(r"(?P<folder>[^/]+)/(?P<file>[^/]+)-(?P<number>\d{3,})\.mp4")
_BYSTANDER_PROBABILITY = 0.35


@dataclass(frozen=True)
class Scene:
    """What one clip shows.

    Attributes:
        background: a key of `BACKGROUNDS`.
        backdrop: the picture behind the objects, (3, S, S), 0 to 1.
        objects: the object that the clip is about comes first.
    """

    background: str
    backdrop: Pixels
    objects: tuple[tuple[Appearance, Track], ...]


def class_names(generator: str) -> tuple[str, ...]:
    """Return the classes of a generator, in alphabetical order.

    Raises:
        UnknownNameError: when there is no such generator.
    """
    if generator not in _CLASS_NAMES:
        raise UnknownNameError("generator", generator, GENERATORS)
    return _CLASS_NAMES[generator]


def _check_class(generator: str, class_name: str) -> None:
    classes = class_names(generator)
    if class_name not in classes:
        raise UnknownNameError(f"class of generator {generator!r}", class_name, classes)


def render_clip(
    generator: str,
    class_name: str,
    number: int,
    *,
    seed: int = 0,
    size: int = 64,
    frames: int = 16,
) -> NDArray[np.uint8]:
    """Render the frames of one clip.

    Args:
        generator: one of `GENERATORS`.
        class_name: one of `class_names(generator)`.
        number: which clip of the class, 0 or more.
        seed: a different seed gives different clips throughout.
        size: side of the square frames, in pixels.
        frames: how many, 2 or more; the motion is spread over all of them.

    Returns:
        (frames, size, size, 3) uint8, red, green, blue.

    Raises:
        UnknownNameError: when there is no such generator or class.
    """
    if generator == WORLD:
        _check_class(generator, class_name)
        world = random_world_scene(class_name, number, seed, size, frames)
        return render_world_scene(world, size)
    scene = random_scene(generator, class_name, number, seed, size, frames)
    # the object that the clip is about is drawn last, over the others
    return paint_frames(scene.backdrop, list(reversed(scene.objects)))


def random_scene(
    generator: str, class_name: str, number: int, seed: int, size: int, frames: int
) -> Scene:
    """Choose everything random about a clip of `motions` or `shapes`.

    Arguments and errors are those of `render_clip`. Clips of `motion-world` have a `WorldScene`
    (`world.scene.random_world_scene`).
    """
    if generator == WORLD:
        raise UnknownNameError("generator of a `Scene`", generator, ("motions", "shapes"))
    _check_class(generator, class_name)
    key = (generator, VERSION, seed, class_name, number)
    look_rng, motion_rng = KeyedRandom(*key, "look"), KeyedRandom(*key, "way")
    shape_and_texture = _SHAPE_CLASSES.get(class_name)
    motion = motion_rng.choice(_SHAPE_MOTIONS) if shape_and_texture else class_name
    t = np.linspace(0, 1, frames)
    tracks = random_tracks(motion, motion_rng, t, motion_rng.uniform(0.15, 0.23))
    if len(tracks) == 1 and not shape_and_texture and motion_rng.chance(_BYSTANDER_PROBABILITY):
        # one thing moves, another does not: two objects in a frame do not tell the class
        tracks = (*tracks, _random_bystander(motion_rng, t, tracks[0]))
    background = look_rng.choice(tuple(BACKGROUNDS))
    appearances = [random_appearance(look_rng, background, shape_and_texture)]
    appearances += [random_appearance(look_rng, background) for _ in tracks[1:]]
    backdrop = random_backdrop(look_rng, background, size)
    return Scene(background, backdrop, tuple(zip(appearances, tracks, strict=True)))


def _random_bystander(rng: KeyedRandom, t: NDArray[np.float64], mover: Track) -> Track:
    """Return a static object: of eight random positions the one farthest from the mover."""
    candidates = [static_track(rng, t, rng.uniform(0.12, 0.17)) for _ in range(8)]
    return max(
        candidates,
        key=lambda track: float(((track.x - mover.x) ** 2 + (track.y - mover.y) ** 2).min()),
    )


def encode(frames: NDArray[np.uint8], fps: int) -> bytes:
    """Encode frames as an MP4 file.

    Args:
        frames: (T, H, W, 3), red, green, blue; H and W even.
        fps: frames per second.

    Returns:
        The file's bytes; the same for the same frames and library versions.
    """
    import av
    from av.video.stream import VideoStream

    # of the best encoder there is, for short, nearly lossless clips
    codec, options = "mpeg4", {"qmin": "1", "qmax": "3", "g": "8"}
    if "libx264" in av.codecs_available:
        # No B-frames and a key frame every 8: frames come back in order and seeking is cheap.
        # Without assembler: on pictures this small it reads memory that nobody wrote, and the same
        # frames then give another file once in some dozen times.
        codec, options = "libx264", {"crf": "14", "preset": "veryfast", "g": "8", "bf": "0"}
        options["x264-params"] = "asm=0"
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = cast(VideoStream, container.add_stream(codec, rate=fps, options=options))
        stream.width, stream.height = frames.shape[2], frames.shape[1]
        stream.pix_fmt = "yuv420p"
        # clips this small gain nothing from threads; one gives the same bytes each time
        stream.thread_count = 1
        for picture in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return buffer.getvalue()


def encode_clip(generator: Generator, class_name: str, number: int) -> bytes:
    """Render a clip and encode it as an MP4 file.

    Arguments and errors are those of `render_clip`; the settings of the generator have the others.
    """
    settings = {"seed": generator.seed, "size": generator.size, "frames": generator.frames}
    return encode(render_clip(generator.name, class_name, number, **settings), generator.fps)


def generation_seconds(generator: Generator, names: Sequence[str]) -> float:
    """Estimate the seconds in which clips are generated, from two of them; nothing is written.

    Args:
        generator: of the clips.
        names: clips by name, as `clip_name` gives them.

    Raises:
        UsageError: when a name is not one that `clip_name` gives.
    """
    measured = sorted(names)[:: max(1, len(names) // 2)][:2]
    start = perf_counter()
    for name in measured:
        encode_clip(generator, *_parse_clip_name(generator.name, name))
    return (perf_counter() - start) / max(1, len(measured)) * len(names)


def clip_name(class_name: str, number: int) -> str:
    """Return the name of a clip below the clip folder, such as "grows/grows-007.mp4"."""
    return f"{class_name}/{class_name}-{number:03d}.mp4"


def _parse_clip_name(generator: str, name: str) -> tuple[str, int]:
    """Return the class and number in a name that `clip_name` gives; else an error."""
    match = _CLIP_NAME.fullmatch(name)
    if match is None or clip_name(match["file"], int(match["number"])) != name:
        raise UsageError(f"{name!r}: not a generated clip; expected a name such as 'a/a-000.mp4'")
    _check_class(generator, match["folder"])
    return match["folder"], int(match["number"])


def write_missing_clips(
    generator: Generator,
    names: Sequence[str],
    folder: Path,
    *,
    progress: Callable[[int], object] = lambda _: None,
) -> int:
    """Write the missing ones of the named clips as MP4 files; safe with several processes.

    The folder must be used for one generator: an existing file is used as it is, also one that
    another process makes meanwhile. Temporary files of killed processes are removed.

    Args:
        generator: its size must be even, as video encoders need it.
        names: clips by name, as `clip_name` gives them.
        folder: where they are written.
        progress: called with 1 for every clip that was missing.

    Returns:
        How many were written by this call.

    Raises:
        UnknownNameError: when there is no such generator or class.
        UsageError: when a name is not one that `clip_name` gives, or the size is odd.
        DiskError: when the clips cannot be written.
    """
    if generator.size % 2:
        raise UsageError(f"size {generator.size}: video files need an even number of pixels")
    parsed = {name: _parse_clip_name(generator.name, name) for name in names}
    written = 0
    try:
        for parent in {(folder / name).parent for name in parsed}:
            parent.mkdir(parents=True, exist_ok=True)
            remove_stale_files(parent.glob(".*.tmp"))
        jobs = [(*parsed[name], folder / name) for name in parsed if not (folder / name).exists()]
        for class_name, number, path in jobs:
            if not path.exists():  # no other process was faster
                temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
                data = encode_clip(generator, class_name, number)
                written += write_shared(path, data, temporary, mode=0o644, replace=False)
            progress(1)
        for parent in {path.parent for _, _, path in jobs}:
            sync_folder(parent, ignore_errors=True)
    except OSError as error:
        raise DiskError(
            f"generated clips cannot be written to {folder}: {error.strerror or error}; free space "
            "there, or choose another folder with --cache"
        ) from error
    return written
