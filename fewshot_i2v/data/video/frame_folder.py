"""Folders of numbered pictures are clips: `clip_01/img_00001.jpg`, `clip_01/img_00002.jpg`, ...

Frame n is the n-th picture by its number, which may begin anywhere; leading zeros do not matter. A
number that is missing or there twice is damage. Of several series of pictures in one folder, such
as those of optical flow beside `img_`, the one is read that is called img, image, frame or by a
number alone. Other files are not looked at.

Every picture is opened, and all must have one size; those that are asked for are decoded whole.
Turning and mirroring that EXIF asks for are applied, transparency is dropped, colour profiles are
not applied, as with videos. Grey and palette pictures become red-green-blue. Refused are CMYK and
16 bits per value, since there is more than one way to show them, and pictures that move.

Pillow also shows JPEG files with large holes, so FFmpeg's stricter decoder must accept them too.
What cannot be noticed: few wrong bytes in JPEG and WebP files, any in BMP files, and damage
behind the heads of pictures that are not asked for.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import struct
import warnings
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewshot_i2v.data.video.container import regular_file
from fewshot_i2v.errors import VideoUnreadable
from fewshot_i2v.utils.limits import raising

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image as Picture

    from fewshot_i2v.data.video.frame_sampling import FrameIndices

PICTURES = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp"))
"""Extensions of pictures that can be frames."""

_FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
_MODES = frozenset(("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX"))
_NUMBERED = re.compile(r"(.*?)([0-9]+)", re.DOTALL)
_OF_FRAMES = frozenset(("", "img", "image", "frame"))
_SHOWN = 3
# what Pillow raises on damaged pictures; SyntaxError is its own use of it
_DAMAGE = (OSError, ValueError, SyntaxError, EOFError, LookupError, TypeError, ArithmeticError)

_Series = Mapping[int, Sequence[str]]


def is_folder(path: Path) -> bool:
    """Whether a clip is a folder, of frames; also False where it cannot be looked at."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises for some paths


def is_frame(name: str) -> bool:
    """Whether a file's name is that of a numbered picture."""
    stem, _, extension = name.rpartition(".")
    return f".{extension.lower()}" in PICTURES and stem[-1:].isascii() and stem[-1:].isdigit()


def links_in(path: Path) -> list[Path]:
    """The links directly in a folder; of a file, and of what cannot be listed, none."""
    with contextlib.suppress(OSError, ValueError), os.scandir(path) as entries:
        return [Path(entry.path) for entry in entries if entry.is_symlink()]
    return []


def frame_files(folder: Path) -> list[Path]:
    """The pictures of a clip, in order.

    Args:
        folder: the clip. Links among its files are followed.

    Raises:
        VideoUnreadable: if the folder cannot be listed, holds no numbered pictures or several
            series of them, or if a number is missing or there twice.
    """
    try:
        names = sorted(path.name for path in folder.iterdir() if path.name[0] != ".")
    except OSError as error:
        raise VideoUnreadable(folder, f"cannot be listed: {error.strerror}") from error
    all_series: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name in filter(is_frame, names):
        match = _NUMBERED.fullmatch(name.rpartition(".")[0])
        if match is not None:
            all_series[match[1]][int(match[2])].append(name)
    series = _one_of(folder, all_series, names)
    _check_numbers(folder, series)
    return [folder / series[number][0] for number in sorted(series)]


def _one_of(folder: Path, all_series: Mapping[str, _Series], names: Sequence[str]) -> _Series:
    if not all_series:
        more = ", ..." if len(names) > _SHOWN else ""
        there = f"there are {', '.join(names[:_SHOWN])}{more}" if names else "it is empty"
        expected = "expected a video file, or a folder with pictures such as img_00001.jpg"
        raise VideoUnreadable(folder, f"is a folder without numbered pictures; {expected}; {there}")
    if len(all_series) == 1:
        return next(iter(all_series.values()))
    fitting = [start for start in all_series if start.strip("_-. ").casefold() in _OF_FRAMES]
    if len(fitting) == 1:
        return all_series[fitting[0]]
    shown = [f"{series[min(series)][0]} ({len(series)})" for series in all_series.values()]
    more = f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else ""
    raise VideoUnreadable(
        folder,
        f"holds {len(shown)} series of pictures: {', '.join(shown[:_SHOWN])}{more}; expected one, "
        "or one that is called img, image, frame or by a number alone: move the others elsewhere",
    )


def _check_numbers(folder: Path, series: _Series) -> None:
    twice = next((names for names in series.values() if len(names) > 1), None)
    if twice is not None:
        raise VideoUnreadable(folder, f"has two pictures of one number: {' and '.join(twice[:2])}")
    numbers = sorted(series)
    absent = numbers[-1] - numbers[0] + 1 - len(numbers)
    if absent:
        ends = [(a + 1, b - 1) for a, b in itertools.pairwise(numbers) if b > a + 1]
        gaps = [f"{a}" if a == b else f"{a} to {b}" for a, b in ends]
        more = ", ..." if len(gaps) > _SHOWN else ""
        first, last = series[numbers[0]][0], series[numbers[-1]][0]
        raise VideoUnreadable(
            folder,
            f"lacks {absent} of {absent + len(series)} pictures from {first} to {last}: "
            f"{', '.join(gaps[:_SHOWN])}{more}. Copy it again, or number its pictures without gaps",
        )


def pictures(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """The pictures of a clip, in order, with their size, times and so on; none is opened.

    Raises:
        VideoUnreadable: as `frame_files`; also if a picture is no regular file.
    """
    found = []
    for file in frame_files(folder):
        try:
            found.append((file, regular_file(file)))
        except VideoUnreadable as error:
            raise VideoUnreadable(folder, f"its picture {file.name} {error.reason}") from error
    return found


def read_frame_folder(
    folder: Path,
    choose: Callable[[int], FrameIndices],
    *,
    shape: Callable[[np.ndarray], np.ndarray],
    max_pixels: int,
    max_frames: int,
) -> np.ndarray:
    """Read chosen frames of a folder; the arguments are those of `reader.read_frames`.

    Args:
        folder: the clip.
        choose: given the number of pictures, the indices wanted, (T,), non-decreasing.
        shape: what to do with each picture (H, W, 3), uint8, before it is kept.
        max_pixels: folders with larger pictures are refused, as are those that Pillow refuses.
        max_frames: folders with more pictures are refused.

    Returns:
        What `shape` made of the pictures, stacked: (T, ...).

    Raises:
        VideoUnreadable: naming the picture, if one cannot be read or differs from the others.
    """
    import numpy as np

    files = frame_files(folder)
    if len(files) > max_frames:
        raise VideoUnreadable(folder, f"has more than {max_frames} frames; {raising('frames')}")
    indices = choose(len(files))
    wanted = {int(i) for i in indices}
    found: dict[int, np.ndarray] = {}
    stored: set[tuple[int, int]] = set()
    shown: set[tuple[int, ...]] = set()
    for i, file in enumerate(files):
        with _opened(folder, file, max_pixels) as picture:
            stored.add(picture.size)
            if i in wanted:
                pixels = _pixels(picture)
                _check_jpeg(picture, file, max_pixels)
                shown.add(pixels.shape)
                found[i] = shape(pixels)
        if len(stored) > 1 or len(shown) > 1:
            what = f"its picture {file.name} has another size or turn than those before it"
            raise VideoUnreadable(folder, f"{what}: expected one size")
    return np.stack([found[int(i)] for i in indices])


@contextmanager
def _opened(folder: Path, file: Path, max_pixels: int) -> Iterator[Picture]:
    """A picture whose head was read; all that is wrong with it is said with its name."""
    from PIL import Image, UnidentifiedImageError, WebPImagePlugin  # noqa: F401 - known by import

    try:
        regular_file(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of EXIF and palettes: what is shown stays the same
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=_FORMATS) as picture:
                _check(picture, max_pixels)
                yield picture
    except _Refused as error:
        reason = str(error)
    except VideoUnreadable as error:
        reason = error.reason
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        reason = "is larger than Pillow opens"
    except UnidentifiedImageError:
        reason = f"is no picture of the kinds {', '.join(_FORMATS)}"
    except (*_DAMAGE, struct.error, zlib.error) as error:
        words = getattr(error, "strerror", None) or str(error) or type(error).__name__
        reason = f"is damaged or cannot be read (Pillow: {words})"
    else:
        return
    raise VideoUnreadable(folder, f"its picture {file.name} {reason}")


class _Refused(Exception):  # noqa: N818 - becomes VideoUnreadable with the picture's name
    """A whole picture that is no frame."""


def _check(picture: Picture, max_pixels: int) -> None:
    pixels = picture.width * picture.height
    if pixels > max_pixels:
        raise _Refused(f"has {pixels} pixels, more than {max_pixels}; {raising('pixels')}")
    tiles: Any = getattr(picture, "tile", ())
    deep = picture.format == "PNG" and any("16" in str(tile[3]) for tile in tiles)
    if picture.mode not in _MODES or deep:
        kind = "16 bits per value" if deep or picture.mode[0] == "I" else f"mode {picture.mode}"
        raise _Refused(f"has {kind}: convert it to 8-bit grey or RGB")
    # a photo of several cameras (MPO) begins with the one that everybody shows
    if picture.format != "MPO" and getattr(picture, "is_animated", False):
        raise _Refused("holds several pictures: expected one in each file")


def _pixels(picture: Picture) -> np.ndarray:
    """The picture as it is meant to be seen, (H, W, 3), uint8."""
    import numpy as np
    from PIL import ImageOps

    return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))


def _check_jpeg(picture: Picture, file: Path, max_pixels: int) -> None:
    """Refuse a damaged JPEG file; Pillow shows one without a word."""
    if picture.format not in ("JPEG", "MPO"):
        return
    import av

    decoder: Any = av.CodecContext.create("mjpeg", "r")
    decoder.options = {"err_detect": "explode", "max_pixels": str(max_pixels)}
    try:
        frames = [*decoder.decode(av.Packet(file.read_bytes())), *decoder.decode(None)]
    except av.InvalidDataError as error:
        raise _Refused(f"is damaged (FFmpeg: {error.strerror})") from error
    except av.FFmpegError:  # a kind that it does not know: nothing is said about damage
        return
    if any(frame.is_corrupt for frame in frames):
        raise _Refused("is damaged")
