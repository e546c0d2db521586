"""What the `demo` encoder is trained on: frames of generated clips, and sentences about them."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fewshot_i2v.data.synthetic import generate
from fewshot_i2v.data.synthetic.motions import Track
from fewshot_i2v.data.synthetic.scene import BACKGROUNDS, COLOURS, Appearance, paint_frames
from fewshot_i2v.data.synthetic.shapes import SHAPES, TEXTURES, KeyedRandom

GENERATORS = ("motions", "shapes")
"""Whose clips the frames are of, in turn."""

OPENINGS = ("a photo of {}", "a picture of {}", "an image of {}", "a video of {}", "{}")

SHORT = {
    "shape": 0.35, "texture": 0.25, "position": 0.15, "size": 0.15, "colour": 0.05,
    "background": 0.05,
}  # fmt: skip
"""How often a short caption is about each attribute: the more, the harder it is to see."""

_ORDER = ("size", "colour", "texture", "shape", "position")

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


@dataclass(frozen=True)
class ObjectAttributes:
    """True description of one object in one frame; see `VOCABULARY` for the values."""

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
        objects: its objects; the main object of the clip comes first.
    """

    frame: NDArray[np.uint8]
    index: int
    objects: tuple[ObjectAttributes, ...]


def render_still(generator: str, class_name: str, number: int, *, seed: int = 0) -> Still:
    """Render one random frame of a clip, with a true description of it.

    The frame is chosen among those that show the main object of the clip, and is the same as
    `generate.render_clip(...)[still.index]`, as are arguments and errors.
    """
    scene = generate.random_scene(generator, class_name, number, seed, size=64, frames=16)
    visible = np.flatnonzero(scene.objects[0][1].opacity > 0.6).tolist()
    rng = KeyedRandom(generator, generate.VERSION, seed, class_name, number, "still")
    index = rng.choice(visible) if visible else 0
    objects = [(appearance, _track_at(track, index)) for appearance, track in scene.objects]
    descriptions = tuple(
        _describe_object(appearance, track, scene.background) for appearance, track in objects
    )
    return Still(paint_frames(scene.backdrop, objects[::-1])[0], index, descriptions)


def _track_at(track: Track, index: int) -> Track:
    moment = slice(index, index + 1)
    return Track(**{name: values[moment] for name, values in vars(track).items()})


def _describe_object(appearance: Appearance, track: Track, background: str) -> ObjectAttributes:
    """Describe one object at one time."""
    column = int(min(max(float(track.x[0]) * 3, 0), 2.999))
    row = int(min(max(float(track.y[0]) * 3, 0), 2.999))
    radius = float(track.radius[0])
    size = SIZES[int(radius > 0.155) + int(radius > 0.205)]
    position = POSITIONS[3 * row + column]
    return ObjectAttributes(
        appearance.shape, appearance.texture, appearance.colour, size, position, background
    )


@dataclass(frozen=True)
class Stills:
    """Frames (N, S, S, 3) uint8, and for each what it shows."""

    frames: NDArray[np.uint8]
    objects: list[tuple[ObjectAttributes, ...]]


def _some_stills(span: range, seed: int) -> Stills:
    """Stills of clips of both generators in turn, of classes drawn at random."""
    shown = []
    for number in span:
        generator = GENERATORS[number % len(GENERATORS)]
        names = generate.class_names(generator)
        draw = np.random.default_rng([seed, number]).integers(len(names))
        shown.append(render_still(generator, names[draw], number, seed=seed))
    return Stills(np.stack([s.frame for s in shown]), [s.objects for s in shown])


def render_stills(count: int, seed: int, workers: int) -> Stills:
    """`count` stills, rendered by `workers` processes (0: by this one)."""
    spans = [range(at, min(at + 500, count)) for at in range(0, count, 500)]
    job = partial(_some_stills, seed=seed)
    if workers < 2:
        parts = [job(span) for span in spans]
    else:
        os.environ["PYTHONSAFEPATH"] = "1"  # its processes never import from the current folder
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(workers, mp_context=context) as pool:
            parts = list(pool.map(job, spans))
    frames = np.concatenate([p.frames for p in parts])
    return Stills(frames, [o for p in parts for o in p.objects])


def turn(frames: NDArray[np.uint8], kind: int) -> NDArray[np.uint8]:
    """One of the eight symmetries of the square, applied to frames (N, S, S, 3)."""
    out = frames.transpose(0, 2, 1, 3) if kind & 4 else frames
    return out[:, :: -1 if kind & 2 else 1, :: -1 if kind & 1 else 1]


def turned_position(position: str, kind: int) -> str:
    """The words for a place after `turn(..., kind)`."""
    row, column = divmod(POSITIONS.index(position), 3)
    if kind & 4:
        row, column = column, row
    row, column = (2 - row if kind & 2 else row), (2 - column if kind & 1 else column)
    return POSITIONS[3 * row + column]


def caption(objects: tuple[ObjectAttributes, ...], kind: int, rng: np.random.Generator) -> str:
    """A random true sentence about a frame that was turned by `kind`."""
    order = list(rng.permutation(len(objects)))
    if rng.random() < 0.25:
        order = order[:1]
    keep = [rng.random(5) < (0.4, 0.8, 0.7, 0.9, 0.8) for _ in order]
    text = " and ".join(_phrase(objects[i], kind, k) for i, k in zip(order, keep, strict=True))
    if rng.random() < 0.4:
        text += f" on a {objects[0].background} background"
    return OPENINGS[int(rng.integers(len(OPENINGS)))].format(text)


def short_caption(
    objects: tuple[ObjectAttributes, ...], kind: int, about: str, opening: str
) -> str:
    """A true sentence about one attribute of a frame that was turned by `kind`.

    Args:
        objects: what the frame shows.
        kind: as for `turn`.
        about: a key of `SHORT`.
        opening: one of `OPENINGS`.
    """
    if about == "background":
        return opening.format(f"an object on a {objects[0].background} background")
    keep = np.array(_ORDER) == about
    return opening.format(" and ".join(_phrase(a, kind, keep) for a in objects))


def _phrase(a: ObjectAttributes, kind: int, keep: NDArray[np.bool_]) -> str:
    """Words for one object; `keep` (5,) says which attributes, in the order of `_ORDER`."""
    words = [a.size if keep[0] else "", a.colour if keep[1] else "", a.texture if keep[2] else ""]
    words.append(a.shape if keep[3] else "object")
    text = " ".join(w for w in words if w)
    text = ("an " if text[0] in "aeiou" else "a ") + text
    return f"{text} at the {turned_position(a.position, kind)}" if keep[4] else text
