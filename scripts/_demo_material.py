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
from fewshot_i2v.data.synthetic.generate import ObjectAttributes

OPENINGS = ("a photo of {}", "a picture of {}", "an image of {}", "a video of {}", "{}")

SHORT = {
    "shape": 0.35, "texture": 0.25, "position": 0.15, "size": 0.15, "colour": 0.05,
    "background": 0.05,
}  # fmt: skip
"""How often a short caption is about each attribute: the more, the harder it is to see."""

_ORDER = ("size", "colour", "texture", "shape", "position")


@dataclass(frozen=True)
class Stills:
    """Frames (N, S, S, 3) uint8, and for each what it shows."""

    frames: NDArray[np.uint8]
    objects: list[tuple[ObjectAttributes, ...]]


def _some_stills(span: range, seed: int) -> Stills:
    """Stills of clips of both generators in turn, of classes drawn at random."""
    shown = []
    for number in span:
        generator = generate.GENERATORS[number % len(generate.GENERATORS)]
        names = generate.class_names(generator)
        draw = np.random.default_rng([seed, number]).integers(len(names))
        shown.append(generate.render_still(generator, names[draw], number, seed=seed))
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
    row, column = divmod(generate.POSITIONS.index(position), 3)
    if kind & 4:
        row, column = column, row
    row, column = (2 - row if kind & 2 else row), (2 - column if kind & 1 else column)
    return generate.POSITIONS[3 * row + column]


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
