"""Film strips of clips for a report, from the decoded clips of a run.

Nothing is decoded or written here: where a run's split, clip files or decoded clips are gone, the
note says what is missing.
"""

from __future__ import annotations

import base64
import io
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from fewshot_i2v.data.splits.split import Split
from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.data.video.clip_cache import CacheEntry, ClipArray, DamagedEntryError
from fewshot_i2v.data.video.clip_digest import ContentDigests
from fewshot_i2v.data.video.reader import DecodeOptions
from fewshot_i2v.errors import FewshotError, SplitError, UsageError, VideoUnreadable
from fewshot_i2v.models.encoders import catalog
from fewshot_i2v.runs.header import recorded_root
from fewshot_i2v.utils.resources import (
    CLIPS_FOLDER,
    GENERATED_FOLDER,
    SPLIT_DIGEST_LENGTH,
    default_cache_folder,
)
from fewshot_i2v.utils.text_table import count_text

_MAX_FRAMES, _HEIGHT, _GAP, _QUALITY = 8, 72, 2, 72
_GREY = 128


@dataclass(frozen=True)
class ClipSources:
    """Paths of the clips, from the command line.

    Attributes:
        split: name or path of the split; None: the recorded one.
        root: folder of the clips; None: that of the run, or else of the split.
        cache: folder of decoded clips; None: the user's cache folder.
    """

    split: str | None = None
    root: Path | None = None
    cache: Path | None = None


@dataclass
class FilmStrips:
    """Film strips of some clips.

    Attributes:
        images: `data:` address of a JPEG for each available clip, by clip name.
        note: what is missing and why, or what is shown; a sentence or two.
    """

    images: dict[str, str] = field(default_factory=dict, repr=False)
    note: str = ""


def film_strips(
    clips: Iterable[str], header: Mapping[str, Any], sources: ClipSources, *, budget: int
) -> FilmStrips:
    """Draws the frames that a run used of some clips, side by side.

    There is one for each clip with decoded frames, up to a total size of `budget` bytes.

    Raises:
        UsageError: when a given split or root does not fit the run.
    """
    try:
        reader = _ClipReader.of(header, sources)
    except FewshotError as error:
        if sources.split is not None or sources.root is not None:
            raise
        return FilmStrips(note=f"Frames are not shown: {error}")
    strips, missing, used_bytes = FilmStrips(), Counter[str](), 0
    for name in clips:
        try:
            image = draw_strip(reader.frames(name))
        except FewshotError as error:
            reason = error.reason if isinstance(error, VideoUnreadable) else str(error)
            missing[reason] += 1
            continue
        if used_bytes + len(image) > budget:
            missing["the page would become too large"] += 1
            continue
        used_bytes += len(image)
        strips.images[name] = image
    strips.note = _strip_note(len(strips.images), missing, reader)
    return strips


def _strip_note(n_shown: int, missing: Counter[str], reader: _ClipReader) -> str:
    frames, order = reader.options.frames, reader.order
    frames_shown = (
        f"{min(frames, _MAX_FRAMES)} of its {frames}" if frames > _MAX_FRAMES else str(frames)
    )
    note = f"Each strip shows the {frames_shown} frames that the encoder sees of a clip."
    if order != "natural":
        order_text = "saw the middle one each time" if order == "single" else f"saw them {order}"
        note += f" They stand in their natural order; the encoder {order_text}."
    if not missing:
        return note
    count, reason = sum(missing.values()), missing.most_common(1)[0][0]
    missing_text = f"Frames of {count_text(count, 'clip')} are not shown: {reason}."
    return f"{note} {missing_text}" if n_shown else missing_text


@dataclass(frozen=True)
class _ClipReader:
    """Reads the decoded clips of a run."""

    split: Split
    generated_folder: Path | None
    cache_folder: Path
    options: DecodeOptions
    order: str
    digests: ContentDigests

    @classmethod
    def of(cls, header: Mapping[str, Any], sources: ClipSources) -> _ClipReader:
        config = header["identity"]["config"]
        cache = sources.cache or default_cache_folder()
        split = find_split(header, sources)
        root = sources.root or recorded_root(header)
        generated = (root or cache / GENERATED_FOLDER) / split.digest[:SPLIT_DIGEST_LENGTH]
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
        generated_folder = generated if split.generator else None
        order = config.get("frame_order", "natural")
        cache_folder = cache / CLIPS_FOLDER
        return cls(
            split, generated_folder, cache_folder, options, order, ContentDigests(cache_folder)
        )

    def frames(self, clip: str) -> ClipArray:
        """Decoded frames of a clip in their natural order, (T, H, W, 3).

        Raises:
            FewshotError: when they are not there.
        """
        path = (
            self.split.clip_path(clip)
            if self.generated_folder is None
            else self.generated_folder / clip
        )
        try:
            digest = self.digests.get(path)
        except VideoUnreadable as error:
            raise VideoUnreadable(path, self._unusable_reason(path, error.reason)) from error
        try:
            return CacheEntry(self.cache_folder, digest, self.options).read()[0]
        except FileNotFoundError as error:
            reason = f"it is not among the decoded clips in {self.cache_folder} (--cache)"
            raise VideoUnreadable(path, reason) from error
        except (DamagedEntryError, OSError) as error:
            raise VideoUnreadable(path, "its decoded frames cannot be read") from error

    def _unusable_reason(self, path: Path, reason: str) -> str:
        """Why a file cannot be used, in equal words for several clips where possible."""
        if reason != "does not exist":
            return f"{path} {reason}"
        if self.generated_folder is not None:
            return (
                f"no such file in {self.generated_folder}; give the cache of the run with --cache"
            )
        return f"no such file in {self.split.root}; give the folder of the clips with --root"


def find_split(header: Mapping[str, Any], sources: ClipSources) -> Split:
    """Loads the split of the run.

    Raises:
        SplitError: when no candidate is the run's split.
    """
    identity, recorded_path = header["identity"], header.get("split", {}).get("path")
    candidates: list[str | Path] = [str(identity["config"]["split"])]
    candidates += [Path(recorded_path)] if recorded_path else []
    problem, root = "", sources.root or recorded_root(header)
    for candidate in candidates if sources.split is None else [sources.split]:
        try:
            split = load_split(candidate, root=root)
        except UsageError as error:
            problem = problem or str(error)
            continue
        if split.digest == identity["split"]["digest"]:
            return split
        problem = problem or f"{candidate}: another list of clips than the run's"
    raise SplitError(f"{problem}; give the run's split with --split")


def _image_size(header: Mapping[str, Any]) -> int:
    """Pixels per side of the encoder's input."""
    encoder = header["identity"]["config"]["encoder"]
    if encoder["image_size"] is not None:
        return int(encoder["image_size"])
    architecture = header.get("encoder", {}).get("architecture")
    name = str(encoder["name"]).replace("/", "-")
    if name == catalog.PIXELS:
        return catalog.PIXELS_IMAGE_SIZE
    paths = [Path(architecture)] if architecture else [catalog.DEMO_CONFIG] * (name == "demo")
    paths = paths or [path for path in catalog._config_paths() if path.stem == name]
    try:
        size = catalog._read_config(paths[0])["vision_cfg"].get("image_size", 224)
    except (OSError, ValueError, LookupError) as error:
        raise UsageError(f"encoder {name!r}: nothing says how large its images are") from error
    return int(size if not isinstance(size, list) else size[0])


def draw_strip(frames: ClipArray) -> str:
    """Draws frames side by side; returns the `data:` address of a JPEG."""
    from PIL import Image

    shown_frames = frames[
        np.linspace(0, len(frames) - 1, min(len(frames), _MAX_FRAMES)).round().astype(int)
    ]
    width = round(_HEIGHT * shown_frames.shape[2] / shown_frames.shape[1])
    strip = Image.new("RGB", (len(shown_frames) * (width + _GAP) - _GAP, _HEIGHT), (_GREY,) * 3)
    for i, frame in enumerate(shown_frames):
        thumbnail = Image.fromarray(np.asarray(frame)).resize((width, _HEIGHT))
        strip.paste(thumbnail, (i * (width + _GAP), 0))
    buffer = io.BytesIO()
    strip.save(buffer, "JPEG", quality=_QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
