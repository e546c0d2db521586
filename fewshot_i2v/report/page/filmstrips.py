"""Film strips of clips for a report, from the clips that a run had decoded.

Nothing is decoded and nothing is written here: where a run's split, its clip files or its decoded
clips are gone, the strips say what is missing.
"""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fewshot_i2v.data.splits.split import Split
from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.data.video.cache_entry import (
    Clip,
    DamagedEntryError,
    entry_file,
    entry_key,
    read_entry,
)
from fewshot_i2v.data.video.clip_digest import Digests
from fewshot_i2v.data.video.reader import DecodeOptions
from fewshot_i2v.errors import FewshotError, SplitError, UsageError, VideoUnreadable
from fewshot_i2v.models.encoders import catalog
from fewshot_i2v.utils.resources import default_cache

_MOST_FRAMES, _HEIGHT, _GAP, _QUALITY = 8, 72, 2, 72
_GREY = 128


@dataclass(frozen=True)
class Places:
    """Where clips may be, as the command line is told.

    Attributes:
        split: name or path of the split; None: where the run found it.
        root: folder of the clips; None: that of the split.
        cache: folder of decoded clips; None: the user's cache folder.
    """

    split: str | None = None
    root: Path | None = None
    cache: Path | None = None


@dataclass
class Strips:
    """Film strips of some clips.

    Attributes:
        images: `data:` address of a JPEG for each clip that was found, by clip name.
        note: what is missing and why, or what is shown; a sentence or two.
    """

    images: dict[str, str] = field(default_factory=dict, repr=False)
    note: str = ""


def film_strips(
    clips: Iterable[str], header: Mapping[str, Any], places: Places, *, budget: int
) -> Strips:
    """The frames that a run saw of some clips, side by side.

    Args:
        clips: names of clips of the run's split.
        header: content of the run's `run.json`.
        places: where to look.
        budget: bytes that the strips may have together.

    Returns:
        As many strips as there are decoded clips for, up to the budget.

    Raises:
        UsageError: when a split or root was given that does not fit the run.
    """
    try:
        shelf = _Shelf.of(header, places)
    except FewshotError as error:
        if places.split is not None or places.root is not None:
            raise
        return Strips(note=f"Frames are not shown: {error}")
    strips, missing, used = Strips(), Counter[str](), 0
    for name in clips:
        try:
            image = _strip(shelf.frames(name))
        except FewshotError as error:
            reason = error.reason if isinstance(error, VideoUnreadable) else str(error)
            missing[reason] += 1
            continue
        if used + len(image) > budget:
            missing["the page would become too large"] += 1
            continue
        used += len(image)
        strips.images[name] = image
    strips.note = _note(len(strips.images), missing, shelf)
    return strips


def _note(found: int, missing: Counter[str], shelf: _Shelf) -> str:
    frames, order = shelf.options.frames, shelf.order
    shown = f"{min(frames, _MOST_FRAMES)} of its {frames}" if frames > _MOST_FRAMES else str(frames)
    text = f"Each strip shows the {shown} frames that the encoder sees of a clip."
    if order != "natural":
        saw = "saw the middle one in every place" if order == "single" else f"saw them {order}"
        text += f" They stand in their natural order; the encoder {saw}."
    if not missing:
        return text
    count, reason = sum(missing.values()), missing.most_common(1)[0][0]
    named = f"Frames of {count} clip{'' if count == 1 else 's'} are not shown: {reason}."
    return f"{text} {named}" if found else named


@dataclass(frozen=True)
class _Shelf:
    """The decoded clips of a run."""

    split: Split
    files: Path | None
    store: Path
    options: DecodeOptions
    order: str
    digests: Digests

    @classmethod
    def of(cls, header: Mapping[str, Any], places: Places) -> _Shelf:
        config = header["identity"]["config"]
        cache = places.cache or default_cache()
        split = find_split(header, places)
        generated = (places.root or cache / "generated") / split.digest[:16]
        video = config["video"]
        options = DecodeOptions(
            frames=video["frames"],
            policy=video["policy"],
            stride=video["stride"],
            size=_image_size(header),
            crop=video["crop"],
            backend=video.get("backend", "pyav"),
        )
        if split.generator is None and split.root is None:
            raise UsageError(f"split {split.name!r} has no root; give the folder with --root")
        files = generated if split.generator else None
        order = config.get("frame_order", "natural")
        store = cache / "clips"
        return cls(split, files, store, options, order, Digests(store))

    def frames(self, clip: str) -> Clip:
        """Decoded frames of a clip in their natural order, (T, H, W, 3).

        Raises:
            FewshotError: when they are not there.
        """
        path = self.split.file(clip) if self.files is None else self.files / clip
        try:
            key = entry_key(path, self.options, self.digests)
        except VideoUnreadable as error:
            raise VideoUnreadable(path, self._told(path, error.reason)) from error
        try:
            return read_entry(entry_file(self.store, key), self.options.shape, key, None)[0]
        except FileNotFoundError as error:
            reason = f"it is not among the decoded clips in {self.store} (--cache)"
            raise VideoUnreadable(path, reason) from error
        except (DamagedEntryError, OSError) as error:
            raise VideoUnreadable(path, "its decoded frames cannot be read") from error

    def _told(self, path: Path, reason: str) -> str:
        """Why a file cannot be used, in words that hold for several clips where that is so."""
        if reason != "does not exist":
            return f"{path} {reason}"
        if self.files is not None:
            return f"no such file in {self.files}; give the cache of the run with --cache"
        return f"no such file in {self.split.root}; give the folder of the clips with --root"


def find_split(header: Mapping[str, Any], places: Places) -> Split:
    """The split of the run.

    Raises:
        SplitError: when none that can be found is the run's.
    """
    asked = header["identity"]["split"]["digest"]
    problem = ""
    for candidate in _candidates(header, places):
        try:
            split = load_split(candidate, root=places.root)
        except UsageError as error:
            problem = problem or str(error)
            continue
        if split.digest == asked:
            return split
        problem = problem or f"{candidate}: another list of clips than the run's"
    raise SplitError(f"{problem}; give the run's split with --split")


def _candidates(header: Mapping[str, Any], places: Places) -> Iterator[str | Path]:
    if places.split is not None:
        yield places.split
        return
    about = header.get("split", {})
    name = str(header["identity"]["config"]["split"])
    yield name
    if about.get("path"):
        yield Path(about["path"])


def _image_size(header: Mapping[str, Any]) -> int:
    """Pixels on a side of what the encoder sees.

    Raises:
        UsageError: when nothing says so.
    """
    encoder = header["identity"]["config"]["encoder"]
    if encoder["image_size"] is not None:
        return int(encoder["image_size"])
    own = header.get("encoder", {}).get("architecture")
    name = str(encoder["name"]).replace("/", "-")
    paths = [Path(own)] if own else [catalog.DEMO_CONFIG] * (name == "demo")
    paths = paths or [path for path in catalog._configurations() if path.stem == name]
    try:
        size = catalog._read(paths[0])["vision_cfg"].get("image_size", 224)
    except (OSError, ValueError, LookupError) as error:
        raise UsageError(f"encoder {name!r}: nothing says how large its images are") from error
    return int(size if not isinstance(size, list) else size[0])


def _strip(frames: Clip) -> str:
    """Frames side by side as the `data:` address of a JPEG."""
    from PIL import Image

    chosen = frames[
        np.linspace(0, len(frames) - 1, min(len(frames), _MOST_FRAMES)).round().astype(int)
    ]
    width = round(_HEIGHT * chosen.shape[2] / chosen.shape[1])
    strip = Image.new("RGB", (len(chosen) * (width + _GAP) - _GAP, _HEIGHT), (_GREY,) * 3)
    for i, frame in enumerate(chosen):
        small = Image.fromarray(np.asarray(frame)).resize((width, _HEIGHT))
        strip.paste(small, (i * (width + _GAP), 0))
    out = io.BytesIO()
    strip.save(out, "JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode("ascii")
