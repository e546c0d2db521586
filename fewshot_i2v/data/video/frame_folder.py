"""Folders of numbered pictures as clips: `clip_01/img_00001.jpg`, `clip_01/img_00002.jpg`, ...

Frame n is the n-th picture by its number, which may begin anywhere; leading zeros do not matter.
A missing or duplicate number is damage. If a folder has several series of pictures, such as those
of optical flow beside `img_`, the series is read that is called img, image, frame or by a number
alone. Other files are ignored.

Every picture is opened, and all must have one size; those that are chosen are decoded completely.
The rotation and mirroring in EXIF are applied, transparency is dropped, colour profiles are not
applied, as with videos. Grey and palette pictures become red-green-blue. Refused are CMYK and 16
bits per value, since there is more than one way to show them, and animated pictures.

Pillow also shows JPEG files with large holes, so FFmpeg's stricter decoder must accept them too.
Not detected: few wrong bytes in JPEG and WebP files, any in BMP files, and damage behind the
headers of pictures that are not chosen.
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

from fewshot_i2v.data.video.clip_disk import check_disk_of
from fewshot_i2v.data.video.container import check_regular_file
from fewshot_i2v.errors import VideoUnreadable
from fewshot_i2v.utils.limits import ClipLimits, limit_hint
from fewshot_i2v.utils.text_table import join_names

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image as Picture

    from fewshot_i2v.data.video.frame_sampling import FrameIndices
    from fewshot_i2v.data.video.pyav_stream import FrameTransform

PICTURE_EXTENSIONS = frozenset((".jpg", ".jpeg", ".png", ".bmp", ".webp"))
"""Extensions of pictures that can be frames."""

_FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
_MODES = frozenset(("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX"))
_NUMBERED_STEM = re.compile(r"(.*?)([0-9]+)", re.DOTALL)
_FRAME_PREFIXES = frozenset(("", "img", "image", "frame"))
_MAX_LISTED = 3
# what Pillow raises on damaged pictures; SyntaxError is its own use of it
_DAMAGE_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    LookupError,
    TypeError,
    ArithmeticError,
    struct.error,
    zlib.error,
)

_Series = Mapping[int, Sequence[str]]


def is_frame_folder(path: Path) -> bool:
    """Return whether a clip is a folder of frames; also False if it cannot be accessed."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises for some paths


def is_frame_name(name: str) -> bool:
    """Return whether a file name is that of a numbered picture."""
    stem, _, extension = name.rpartition(".")
    return (
        f".{extension.lower()}" in PICTURE_EXTENSIONS
        and stem[-1:].isascii()
        and stem[-1:].isdigit()
    )


def list_links(path: Path) -> list[Path]:
    """List the links directly in a folder; none for a file or a folder that cannot be listed."""
    with contextlib.suppress(OSError, ValueError), os.scandir(path) as entries:
        return [Path(entry.path) for entry in entries if entry.is_symlink()]
    return []


def list_frame_files(folder: Path) -> list[Path]:
    """List the pictures of a clip, in order.

    Args:
        folder: the clip. Links among its files are followed.

    Raises:
        VideoUnreadable: if the folder cannot be listed, holds no numbered pictures or several
            series of them, or if a number is missing or duplicate.
    """
    try:
        names = sorted(path.name for path in folder.iterdir() if path.name[0] != ".")
    except OSError as error:
        check_disk_of(folder, error)
        raise VideoUnreadable(folder, f"cannot be listed: {error.strerror}") from error
    all_series: dict[str, dict[int, list[str]]] = defaultdict(lambda: defaultdict(list))
    for name in filter(is_frame_name, names):
        match = _NUMBERED_STEM.fullmatch(name.rpartition(".")[0])
        if match is not None:
            all_series[match[1]][int(match[2])].append(name)
    series = _choose_series(folder, all_series, names)
    _check_numbers(folder, series)
    return [folder / series[number][0] for number in sorted(series)]


def _choose_series(
    folder: Path, all_series: Mapping[str, _Series], names: Sequence[str]
) -> _Series:
    if not all_series:
        contents = f"there are {_list_first(names)}" if names else "it is empty"
        expected = "expected a video file, or a folder with pictures such as img_00001.jpg"
        reason = f"is a folder without numbered pictures; {expected}; {contents}"
        raise VideoUnreadable(folder, reason)
    if len(all_series) == 1:
        return next(iter(all_series.values()))
    frame_prefixes = [
        prefix for prefix in all_series if prefix.strip("_-. ").casefold() in _FRAME_PREFIXES
    ]
    if len(frame_prefixes) == 1:
        return all_series[frame_prefixes[0]]
    descriptions = [f"{series[min(series)][0]} ({len(series)})" for series in all_series.values()]
    raise VideoUnreadable(
        folder,
        f"holds {len(descriptions)} series of pictures: "
        f"{join_names(descriptions, _MAX_LISTED)}; expected one, or one that is called "
        "img, image, frame or by a number alone: move the others elsewhere",
    )


def _check_numbers(folder: Path, series: _Series) -> None:
    duplicates = next((names for names in series.values() if len(names) > 1), None)
    if duplicates is not None:
        raise VideoUnreadable(
            folder, f"has two pictures of one number: {' and '.join(duplicates[:2])}"
        )
    numbers = sorted(series)
    n_missing = numbers[-1] - numbers[0] + 1 - len(numbers)
    if n_missing:
        ranges = [
            (start + 1, end - 1) for start, end in itertools.pairwise(numbers) if end > start + 1
        ]
        gaps = [f"{start}" if start == end else f"{start} to {end}" for start, end in ranges]
        first_name, last_name = series[numbers[0]][0], series[numbers[-1]][0]
        raise VideoUnreadable(
            folder,
            f"lacks {n_missing} of {n_missing + len(series)} pictures from {first_name} to "
            f"{last_name}: {_list_first(gaps)}. Copy it again, or number its pictures without gaps",
        )


def _list_first(names: Sequence[str]) -> str:
    return ", ".join(names[:_MAX_LISTED]) + (", ..." if len(names) > _MAX_LISTED else "")


def stat_frame_files(folder: Path) -> list[tuple[Path, os.stat_result]]:
    """List the pictures of a clip, in order, with their file status; none is opened.

    Raises:
        VideoUnreadable: as `list_frame_files`; also if a picture is no regular file.
    """
    stats = []
    for file in list_frame_files(folder):
        try:
            stats.append((file, check_regular_file(file)))
        except VideoUnreadable as error:
            raise VideoUnreadable(folder, f"its picture {file.name} {error.reason}") from error
    return stats


def read_frame_folder(
    folder: Path,
    choose: Callable[[int], FrameIndices],
    transform: FrameTransform,
    limits: ClipLimits,
) -> np.ndarray:
    """Read chosen frames of a folder; arguments and result are those of `reader.read_frames`.

    Raises:
        VideoUnreadable: naming the picture, if one cannot be read, has a different size, or is
            larger than the limit or than Pillow opens.
    """
    import numpy as np
    from PIL import ImageOps

    files = list_frame_files(folder)
    if len(files) > limits.frames:
        reason = f"has more than {limits.frames} frames; {limit_hint('frames')}"
        raise VideoUnreadable(folder, reason)
    indices = choose(len(files))
    wanted = {int(i) for i in indices}
    frames: dict[int, np.ndarray] = {}
    stored_sizes: set[tuple[int, int]] = set()
    shown_shapes: set[tuple[int, ...]] = set()
    for i, file in enumerate(files):
        with _open_picture(folder, file, limits.pixels) as picture:
            stored_sizes.add(picture.size)
            if i in wanted:
                # as a viewer shows it
                pixels = np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))
                _check_jpeg(picture, file, limits.pixels)
                shown_shapes.add(pixels.shape)
                frames[i] = transform(pixels)
        if len(stored_sizes) > 1 or len(shown_shapes) > 1:
            problem = f"its picture {file.name} has another size or turn than those before it"
            raise VideoUnreadable(folder, f"{problem}: expected one size")
    return np.stack([frames[int(i)] for i in indices])


@contextmanager
def _open_picture(folder: Path, file: Path, max_pixels: int) -> Iterator[Picture]:
    """Open a picture and check its header; every error names the picture."""
    from PIL import Image, UnidentifiedImageError, WebPImagePlugin  # noqa: F401 - known by import

    try:
        check_regular_file(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of EXIF and palettes: what is shown stays the same
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=_FORMATS) as picture:
                _check_picture(picture, file, max_pixels)
                yield picture
    except VideoUnreadable as error:
        reason = error.reason
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        reason = "is larger than Pillow opens"
    except UnidentifiedImageError:
        reason = f"is no picture of the kinds {', '.join(_FORMATS)}"
    except _DAMAGE_ERRORS as error:
        check_disk_of(file, error)
        detail = getattr(error, "strerror", None) or str(error) or type(error).__name__
        reason = f"is damaged or cannot be read (Pillow: {detail})"
    else:
        return
    raise VideoUnreadable(folder, f"its picture {file.name} {reason}")


def _check_picture(picture: Picture, file: Path, max_pixels: int) -> None:
    """Refuse an intact picture that cannot be a frame."""
    pixels = picture.width * picture.height
    if pixels > max_pixels:
        reason = f"has {pixels} pixels, more than {max_pixels}; {limit_hint('pixels')}"
        raise VideoUnreadable(file, reason)
    tiles: Any = getattr(picture, "tile", ())
    is_16_bit = picture.format == "PNG" and any("16" in str(tile[3]) for tile in tiles)
    if picture.mode not in _MODES or is_16_bit:
        is_wide = is_16_bit or picture.mode[0] == "I"
        kind = "16 bits per value" if is_wide else f"mode {picture.mode}"
        raise VideoUnreadable(file, f"has {kind}: convert it to 8-bit grey or RGB")
    # a photo of several cameras (MPO) begins with the one that everybody shows
    if picture.format != "MPO" and getattr(picture, "is_animated", False):
        raise VideoUnreadable(file, "holds several pictures: expected one in each file")


def _check_jpeg(picture: Picture, file: Path, max_pixels: int) -> None:
    """Refuse a damaged JPEG file, which Pillow would show without an error."""
    if picture.format not in ("JPEG", "MPO"):
        return
    import av

    decoder: Any = av.CodecContext.create("mjpeg", "r")
    decoder.options = {"err_detect": "explode", "max_pixels": str(max_pixels)}
    try:
        frames = [*decoder.decode(av.Packet(file.read_bytes())), *decoder.decode(None)]
    except av.InvalidDataError as error:
        raise VideoUnreadable(file, f"is damaged (FFmpeg: {error.strerror})") from error
    except av.FFmpegError:  # a kind that it does not know: nothing is said about damage
        return
    if any(frame.is_corrupt for frame in frames):
        raise VideoUnreadable(file, "is damaged")
