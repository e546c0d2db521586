"""Film strips: the frames that a run saw, or a sentence that says why there are none."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fewshot_i2v.data.splits.split import Generator, Split
from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.data.synthetic import generate
from fewshot_i2v.data.video.clip_cache import ClipCache
from fewshot_i2v.data.video.reader import DecodeOptions
from fewshot_i2v.errors import SplitError, UsageError
from fewshot_i2v.report.page.filmstrips import ClipSources, film_strips

SIZE = 32
BUDGET = 1_000_000


@pytest.fixture(scope="module")
def split() -> Split:
    return load_split("motions")


@pytest.fixture(scope="module")
def names(split: Split) -> list[str]:
    classes = split.classes("novel")
    return [split.clips("novel", name)[0].name for name in classes[:2]]


@pytest.fixture(scope="module")
def cache(split: Split, names: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache in which the clips are generated and decoded, as a run leaves it."""
    cache = tmp_path_factory.mktemp("cache")
    folder = cache / "generated" / split.digest[:16]
    assert split.generator is not None
    generate.write_missing_clips(Generator("motions", size=SIZE, frames=9), names, folder)
    store = ClipCache(cache / "clips", DecodeOptions(frames=3, size=SIZE, crop=1.0), workers=0)
    assert not store.prepare([folder / name for name in names])
    return cache


def header(split: Split, /, **changes: Any) -> dict[str, Any]:
    config = {
        "split": "motions",
        "encoder": {"name": "demo", "image_size": SIZE, "architecture": None},
        "video": {"frames": 3, "policy": "segment-center", "stride": 1, "crop": 1.0},
        **changes,
    }
    return {"identity": {"config": config, "split": {"digest": split.digest}}}


def picture(address: str) -> Image.Image:
    kind, _, data = address.partition(",")
    assert kind == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_a_strip_shows_the_frames_in_order(split: Split, names: list[str], cache: Path) -> None:
    strips = film_strips(names, header(split), ClipSources(cache=cache), budget=BUDGET)
    assert list(strips.images) == names
    assert strips.note == "Each strip shows the 3 frames that the encoder sees of a clip."
    image = picture(strips.images[names[0]])
    assert image.size == (3 * 72 + 2 * 2, 72)
    store = ClipCache(cache / "clips", DecodeOptions(frames=3, size=SIZE, crop=1.0), workers=0)
    frames = store.get(cache / "generated" / split.digest[:16] / names[0])
    for i, frame in enumerate(frames):
        shown = image.crop((74 * i, 0, 74 * i + 72, 72)).resize((SIZE, SIZE))
        away = [np.abs(np.asarray(shown, float) - other).mean() for other in frames]
        assert int(np.argmin(away)) == i
        assert np.abs(np.asarray(shown, float) - frame).mean() < 12


def test_clips_that_were_not_decoded_are_counted_and_the_reason_is_given(
    split: Split, names: list[str], cache: Path
) -> None:
    asked = [names[0], "nowhere/at-all-001.mp4"]
    strips = film_strips(asked, header(split), ClipSources(cache=cache), budget=BUDGET)
    assert list(strips.images) == names[:1]
    assert "Frames of 1 clip are not shown: no such file in " in strips.note
    assert strips.note.endswith("; give the cache of the run with --cache.")
    other = header(split, video={"frames": 5, "policy": "uniform", "stride": 1, "crop": 1.0})
    none = film_strips(names, other, ClipSources(cache=cache), budget=BUDGET)
    assert none.images == {}
    assert none.note.startswith("Frames of 2 clips are not shown: it is not among the decoded")


def test_nothing_is_decoded_or_written(split: Split, tmp_path: Path, names: list[str]) -> None:
    strips = film_strips(names, header(split), ClipSources(cache=tmp_path), budget=BUDGET)
    assert strips.images == {}
    assert not list(tmp_path.iterdir())


def test_a_damaged_entry_is_left_alone(split: Split, names: list[str], cache: Path) -> None:
    entries = sorted((cache / "clips").rglob("*.npy"))
    before = entries[0].read_bytes()
    entries[0].chmod(0o644)
    entries[0].write_bytes(before[:-40] + bytes(40))
    try:
        strips = film_strips(names, header(split), ClipSources(cache=cache), budget=BUDGET)
        assert len(strips.images) == 1
        assert "cannot be read" in strips.note
        assert entries[0].exists()
    finally:
        entries[0].write_bytes(before)


def test_the_budget_holds(split: Split, names: list[str], cache: Path) -> None:
    one = film_strips(names[:1], header(split), ClipSources(cache=cache), budget=BUDGET)
    budget = len(one.images[names[0]])
    both = film_strips(names, header(split), ClipSources(cache=cache), budget=budget)
    assert list(both.images) == names[:1]
    assert "too large" in both.note


def test_another_order_of_frames_is_said(split: Split, names: list[str], cache: Path) -> None:
    for order, said in (
        ("shuffled", "the encoder saw them shuffled."),
        ("single", "the encoder saw the middle one each time."),
    ):
        given = header(split, frame_order=order)
        note = film_strips(names, given, ClipSources(cache=cache), budget=BUDGET).note
        assert said in note


def test_a_split_that_is_gone_or_another_one_is_said(split: Split, names: list[str]) -> None:
    gone = header(split, split="no-such-split")
    assert "unknown" in film_strips(names, gone, ClipSources(), budget=BUDGET).note
    changed = header(split)
    changed["identity"]["split"]["digest"] = "0" * 64
    note = film_strips(names, changed, ClipSources(), budget=BUDGET).note
    assert note.startswith("Frames are not shown: motions: another list of clips than the run's")
    with pytest.raises(SplitError, match="another list of clips"):
        film_strips(names, changed, ClipSources(split="motions"), budget=BUDGET)


def test_the_path_that_the_run_noted_is_used_where_the_name_is_not_known(
    split: Split, names: list[str], cache: Path, tmp_path: Path
) -> None:
    assert split.path is not None
    (tmp_path / "mine.yaml").write_text(split.path.read_text(encoding="utf-8"), encoding="utf-8")
    given = header(split, split="mine") | {"split": {"path": str(tmp_path / "mine.yaml")}}
    assert film_strips(names, given, ClipSources(cache=cache), budget=BUDGET).images


def test_a_split_of_files_needs_a_root(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("name: own\nsubsets: {novel: {a: [a/1.mp4], b: [b/1.mp4]}}\n")
    own = load_split(path)
    given = header(own, split="own") | {"split": {"path": str(path)}}
    note = film_strips(["a/1.mp4"], given, ClipSources(), budget=BUDGET).note
    assert "give the folder with --root" in note
    with pytest.raises(UsageError):
        film_strips(["a/1.mp4"], given, ClipSources(root=tmp_path / "absent"), budget=BUDGET)
    note = film_strips(
        ["a/1.mp4", "b/1.mp4"], given, ClipSources(root=tmp_path), budget=BUDGET
    ).note
    assert note == (
        f"Frames of 2 clips are not shown: no such file in {tmp_path}; give the folder of the "
        "clips with --root."
    )
    recorded = given | {"split": {"path": str(path), "root": str(tmp_path)}}
    assert film_strips(["a/1.mp4", "b/1.mp4"], recorded, ClipSources(), budget=BUDGET).note == note
    gone = given | {"split": {"path": str(path), "root": str(tmp_path / "gone")}}
    missing_note = film_strips(["a/1.mp4"], gone, ClipSources(), budget=BUDGET).note
    assert "give the folder with --root" in missing_note
    (tmp_path / "a" / "1.mp4").mkdir(parents=True)
    note = film_strips(["a/1.mp4"], given, ClipSources(root=tmp_path), budget=BUDGET).note
    assert f"{tmp_path / 'a' / '1.mp4'} is a folder without numbered pictures" in note


def test_the_size_of_images_is_that_of_the_encoder(split: Split, tmp_path: Path) -> None:
    from fewshot_i2v.report.page.filmstrips import _image_size

    def _sized(name: str, path: Path | None = None) -> int:
        encoder = {"name": name, "image_size": None}
        given = header(split, encoder=encoder)
        about = {"encoder": {"architecture": None if path is None else str(path)}}
        return _image_size(given | about)

    assert _sized("ViT-B-16") == 224
    assert _sized("ViT-L/14-336") == 336
    assert _sized("pixels") == 112
    (tmp_path / "own.json").write_text('{"embed_dim": 8, "vision_cfg": {"image_size": 48}}')
    assert _sized("own", tmp_path / "own.json") == 48
    with pytest.raises(UsageError, match="how large"):
        _sized("no-such-encoder")
