"""Generated clips of moving shapes: material that needs no download and no permission.

Two generators:

* `motions`: the class is how something moves. Shape, texture, colour, size, place, direction
  where the class leaves it open, and background are random and independent of the class. Most
  classes come in pairs that are each other played backwards, so that no single frame, and no
  average over frames, tells one from the other.
* `shapes`: the class is what moves, a shape with a texture. The motion is random.

A clip is a pure function of the generator's name and `VERSION`, the seed, the class and its
number.
"""

from __future__ import annotations

import io
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from fewshot_i2v.data.synthetic.motions import (
    MOTIONS,
    REVERSALS,
    WITH_TWO_OBJECTS,
    Track,
    still_track,
)
from fewshot_i2v.data.synthetic.scene import (
    BACKGROUNDS,
    COLOURS,
    Look,
    draw_backdrop,
    draw_background,
    draw_look,
    paint,
)
from fewshot_i2v.data.synthetic.shapes import SHAPES, TEXTURES, Draws, Pixels
from fewshot_i2v.errors import DiskError, UnknownNameError, UsageError
from fewshot_i2v.utils.files import sync_folder_if_possible
from fewshot_i2v.utils.locked_files import being_written, publish, sweep


@cache
def _codec() -> tuple[str, dict[str, str]]:
    """The best encoder this PyAV has, and its options for short, small, nearly lossless clips."""
    import av

    if "libx264" in av.codecs_available:
        # No B-frames and a key frame every 8: frames come back in order and seeking is cheap.
        # Without assembler: on pictures this small it reads memory that nobody wrote, and the same
        # frames then give another file once in some dozen times.
        options = {"crf": "14", "preset": "veryfast", "g": "8", "bf": "0"}
        return "libx264", options | {"x264-params": "asm=0"}
    return "mpeg4", {"qmin": "1", "qmax": "3", "g": "8"}


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

    codec, options = _codec()
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = cast(VideoStream, container.add_stream(codec, rate=fps, options=dict(options)))
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


def write_new(path: Path, data: bytes) -> bool:
    """Make a file that is seen whole or not at all, also by other processes.

    The folder's entry is made durable by `sync_folder`, once for many files.

    Args:
        path: the file. One that is there stays: others may be reading it.
        data: its content.

    Returns:
        Whether there was none.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    with being_written(temporary) as file:
        file.write(data)
        return publish(file, path, mode=0o644, replace=False)


__all__ = [
    "GENERATORS",
    "POSITIONS",
    "REVERSALS",
    "SIZES",
    "VERSION",
    "VOCABULARY",
    "Attributes",
    "Still",
    "class_names",
    "clip_name",
    "materialize",
    "render",
    "still",
]

VERSION = 1
"""Raised with every change of the pixels that a generator gives."""

GENERATORS: tuple[str, ...] = ("motions", "shapes")
"""Names of the generators."""

SIZES = ("small", "medium", "large")
POSITIONS = (
    "top left", "top", "top right", "left", "centre", "right", "bottom left", "bottom",
    "bottom right",
)  # fmt: skip
VOCABULARY: dict[str, tuple[str, ...]] = {
    "shape": tuple(SHAPES),
    "texture": tuple(TEXTURES),
    "colour": tuple(COLOURS),
    "size": SIZES,
    "position": POSITIONS,
    "background": tuple(BACKGROUNDS),
}
"""Every value that an attribute of a still can have."""

_SHAPE_CLASSES = {f"{t}-{s}": (s, t) for s in SHAPES for t in TEXTURES}
_SHAPE_MOTIONS = tuple(n for n in MOTIONS if n not in WITH_TWO_OBJECTS)
_CLIP_NAME = re.compile(r"(?P<folder>[^/]+)/(?P<file>[^/]+)-(?P<number>\d{3,})\.mp4")
_BYSTANDER = 0.35


@dataclass(frozen=True)
class Attributes:
    """What can be said truly of one object in one frame; see `VOCABULARY` for the values."""

    shape: str
    texture: str
    colour: str
    size: str
    position: str
    background: str


@dataclass(frozen=True)
class Still:
    """One frame of a clip.

    Attributes:
        frame: (S, S, 3) uint8, red, green, blue.
        index: which frame of the clip it is.
        objects: what it shows; the object that the clip is about comes first.
    """

    frame: NDArray[np.uint8]
    index: int
    objects: tuple[Attributes, ...]


@dataclass(frozen=True)
class _Scene:
    background: str
    backdrop: Pixels
    objects: tuple[tuple[Look, Track], ...]


def class_names(generator: str) -> tuple[str, ...]:
    """Classes of a generator, in alphabetical order.

    Raises:
        UnknownNameError: when there is no such generator.
    """
    if generator == "motions":
        return tuple(MOTIONS)
    if generator == "shapes":
        return tuple(sorted(_SHAPE_CLASSES))
    raise UnknownNameError("generator", generator, GENERATORS)


def render(
    generator: str,
    class_name: str,
    number: int,
    *,
    seed: int = 0,
    size: int = 64,
    frames: int = 16,
) -> NDArray[np.uint8]:
    """The frames of one clip.

    Args:
        generator: one of `GENERATORS`.
        class_name: one of `class_names(generator)`.
        number: which clip of the class, 0 or more.
        seed: another seed gives other clips throughout.
        size: side of the square frames, in pixels.
        frames: how many, 2 or more; the motion is spread over all of them.

    Returns:
        (frames, size, size, 3) uint8, red, green, blue.

    Raises:
        UnknownNameError: when there is no such generator or class.
    """
    scene = _scene(generator, class_name, number, seed, size, frames)
    # the object that the clip is about is drawn last, over the others
    return paint(scene.backdrop, list(reversed(scene.objects)))


def still(
    generator: str,
    class_name: str,
    number: int,
    *,
    seed: int = 0,
    size: int = 64,
    frames: int = 16,
) -> Still:
    """One random frame of a clip, with what can truly be said of it.

    The frame is drawn from those that show the object that the clip is about, and is the same as
    `render(...)[still.index]`. Arguments and errors are those of `render`.
    """
    scene = _scene(generator, class_name, number, seed, size, frames)
    seen = np.flatnonzero(scene.objects[0][1].opacity > 0.6).tolist()
    draws = Draws(generator, VERSION, seed, class_name, number, "still")
    index = draws.pick(seen) if seen else 0
    shown = [(look, _moment(track, index)) for look, track in scene.objects]
    words = tuple(_attributes(look, track, scene.background) for look, track in shown)
    return Still(paint(scene.backdrop, shown[::-1])[0], index, words)


def _scene(
    generator: str, class_name: str, number: int, seed: int, size: int, frames: int
) -> _Scene:
    """Everything random about a clip, drawn."""
    if class_name not in class_names(generator):
        raise UnknownNameError(
            f"class of generator {generator!r}", class_name, class_names(generator)
        )
    key = (generator, VERSION, seed, class_name, number)
    look, way = Draws(*key, "look"), Draws(*key, "way")
    form = _SHAPE_CLASSES.get(class_name)
    motion = way.pick(_SHAPE_MOTIONS) if form else class_name
    t = np.linspace(0, 1, frames)
    tracks = MOTIONS[motion](way, t, way.uniform(0.15, 0.23))
    if len(tracks) == 1 and not form and way.chance(_BYSTANDER):
        # one thing moves, another does not: two objects in a frame do not tell the class
        tracks = (*tracks, _bystander(way, t, tracks[0]))
    background = draw_background(look)
    looks = [draw_look(look, background, form)]
    looks += [draw_look(look, background) for _ in tracks[1:]]
    backdrop = draw_backdrop(look, background, size)
    return _Scene(background, backdrop, tuple(zip(looks, tracks, strict=True)))


def _bystander(draws: Draws, t: NDArray[np.float64], mover: Track) -> Track:
    """An object that stays where it is, of eight random places the one farthest from the mover."""
    places = [still_track(draws, t, draws.uniform(0.12, 0.17)) for _ in range(8)]
    return max(places, key=lambda p: float(((p.x - mover.x) ** 2 + (p.y - mover.y) ** 2).min()))


def _moment(track: Track, index: int) -> Track:
    at = slice(index, index + 1)
    return Track(
        track.x[at], track.y[at], track.radius[at], track.angle[at], track.light[at],
        track.opacity[at],
    )  # fmt: skip


def _attributes(look: Look, track: Track, background: str) -> Attributes:
    """Words for one object at one time."""
    column = int(min(max(float(track.x[0]) * 3, 0), 2.999))
    row = int(min(max(float(track.y[0]) * 3, 0), 2.999))
    radius = float(track.radius[0])
    size = SIZES[int(radius > 0.155) + int(radius > 0.205)]
    position = POSITIONS[3 * row + column]
    return Attributes(look.shape, look.texture, look.colour, size, position, background)


def clip_name(class_name: str, number: int) -> str:
    """The name of a clip below the clip folder, such as "grows/grows-007.mp4"."""
    return f"{class_name}/{class_name}-{number:03d}.mp4"


def _parse(generator: str, name: str) -> tuple[str, int]:
    """Class and number of a clip's name.

    Raises:
        UsageError: when it is not a name that `clip_name` gives.
        UnknownNameError: when there is no such generator or class.
    """
    found = _CLIP_NAME.fullmatch(name)
    if found is None or clip_name(found["file"], int(found["number"])) != name:
        raise UsageError(f"{name!r}: not a generated clip; expected a name such as 'a/a-000.mp4'")
    if found["folder"] not in class_names(generator):
        known = class_names(generator)
        raise UnknownNameError(f"class of generator {generator!r}", found["folder"], known)
    return found["folder"], int(found["number"])


def materialize(
    generator: str,
    names: Sequence[str],
    folder: Path,
    *,
    seed: int = 0,
    size: int = 64,
    frames: int = 16,
    fps: int = 8,
    progress: Callable[[int], object] = lambda _: None,
) -> int:
    """Write those of the named clips that are missing, as MP4 files; safe with several processes.

    The folder must be used for one seed, size, frames and fps: a file that exists is taken as is,
    also one that another process makes meanwhile. What killed processes left is removed.

    Args:
        generator: one of `GENERATORS`.
        names: clips by name, as `clip_name` gives them.
        folder: where they go.
        seed: as for `render`.
        size: as for `render`; even, as video encoders need it.
        frames: as for `render`.
        fps: frames per second of the files.
        progress: called with 1 for every clip that was missing.

    Returns:
        How many were written by this call.

    Raises:
        UnknownNameError: when there is no such generator or class.
        UsageError: when a name is not one that `clip_name` gives, or `size` is odd.
        DiskError: when the clips cannot be written.
    """
    if size % 2:
        raise UsageError(f"size {size}: video files need an even number of pixels")
    parsed = {name: _parse(generator, name) for name in names}
    written = 0
    try:
        for parent in {(folder / name).parent for name in parsed}:
            parent.mkdir(parents=True, exist_ok=True)
            sweep(parent.glob(".*.tmp"))
        jobs = [(*parsed[name], folder / name) for name in parsed if not (folder / name).exists()]
        for class_name, number, path in jobs:
            if not path.exists():  # no other process was faster
                clip = render(generator, class_name, number, seed=seed, size=size, frames=frames)
                written += write_new(path, encode(clip, fps))
            progress(1)
        for parent in {path.parent for _, _, path in jobs}:
            sync_folder_if_possible(parent)
    except OSError as error:
        reason = error.strerror or str(error)
        advice = "free space there, or choose another folder with --cache"
        raise DiskError(
            f"generated clips cannot be written to {folder}: {reason}; {advice}"
        ) from error
    return written
