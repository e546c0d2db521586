"""Starting points: read, refused, and given to every copy of an adapter."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from fewshot_i2v.config.start_names import names_of_starts, start_name_of
from fewshot_i2v.errors import CheckpointError, ConfigError, UnknownNameError
from fewshot_i2v.models.adapters.base.adapter import Adapter
from fewshot_i2v.models.checkpoints.adapter_checkpoint import save_adapter
from fewshot_i2v.models.checkpoints.start_index import find_starts, starts_by_adapter
from fewshot_i2v.models.checkpoints.starting_point import read_start
from fewshot_i2v.models.encoders.loading import Encoder, load_encoder
from tests.models.made_starts import facts, make_start
from tests.models.saved import features_of, tiny_encoder
from tests.models.tiny_adapters import make_adapter, perturb


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return tiny_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Path:
    folder = tmp_path_factory.mktemp("starts") / "mine"
    make_start(folder, encoder)
    return folder


def _fresh(
    encoder: Encoder,
    name: str = "st-adapter",
    *,
    copies: int = 1,
    frames: int = 4,
    **options: object,
) -> Adapter:
    return make_adapter(name, encoder.tower, frames=frames, seeds=range(copies), **options)


# --- reading ------------------------------------------------------------------------------------


def test_what_is_read_is_what_was_written(folder: Path, encoder: Encoder) -> None:
    start = read_start(folder, "st-adapter")
    assert (start.name, start.kind, start.folder) == ("mine", "base-trained", folder)
    assert start.facts.classes == ["run", "walk"]
    adapter = _fresh(encoder)
    start.load_into(adapter, encoder)
    assert start.tensors.keys() == {f"adapter.{name}" for name in adapter.state_dict()}
    trained = perturb(make_adapter("st-adapter", encoder.tower, frames=4, seeds=[7]), [7])
    expected = features_of(encoder, trained).frames
    assert torch.equal(features_of(encoder, adapter).frames, expected)


@pytest.mark.parametrize("name", ["st-adapter", "aim", "zeroi2v", "m-adapter", "lora", "bitfit"])
def test_every_copy_begins_as_a_single_one_does(
    tmp_path: Path, encoder: Encoder, name: str
) -> None:
    make_start(tmp_path / "s", encoder, name)
    start = read_start(tmp_path / "s", name)
    one, three = _fresh(encoder, name), _fresh(encoder, name, copies=3)
    start.load_into(one, encoder)
    start.load_into(three, encoder)
    for key, value in three.state_dict().items():
        alone = one.state_dict()[key]
        assert all(torch.equal(value[e, None], alone) for e in range(3)), key
    first = next(three.parameters())
    with torch.no_grad():
        first[0] += 1
    assert not torch.equal(first[0], first[1]), "the copies do not share memory"
    again = read_start(tmp_path / "s", name)
    assert all(torch.equal(again.tensors[n], t) for n, t in start.tensors.items())


def test_half_precision_is_used_in_float32(tmp_path: Path, encoder: Encoder) -> None:
    make_start(tmp_path / "half", encoder, half=True)
    make_start(tmp_path / "full", encoder)
    half, full = (read_start(tmp_path / name, "st-adapter") for name in ("half", "full"))
    adapter = _fresh(encoder, copies=2)
    half.load_into(adapter, encoder)
    for name, value in adapter.state_dict().items():
        rounded = full.tensors[f"adapter.{name}"].half().float()
        assert value.dtype == torch.float32
        assert torch.equal(value, rounded.expand_as(value))


def test_half_precision_without_a_word_of_it_is_refused(tmp_path: Path, encoder: Encoder) -> None:
    make_start(tmp_path / "s", encoder, half=True, stored="float32")
    start = read_start(tmp_path / "s", "st-adapter")
    with pytest.raises(CheckpointError, match=r"float16 .*should be float32"):
        start.load_into(_fresh(encoder), encoder)


def test_the_digest_is_of_the_values_and_not_of_where_they_lie(
    tmp_path: Path, folder: Path, encoder: Encoder
) -> None:
    make_start(tmp_path / "same", encoder, seed=5)
    make_start(tmp_path / "other", encoder, seeds=(8,))
    same, other = (read_start(tmp_path / name, "st-adapter") for name in ("same", "other"))
    assert read_start(folder, "st-adapter").digest == same.digest != other.digest


# --- refusals -----------------------------------------------------------------------------------


def test_what_is_no_starting_point_is_refused(tmp_path: Path, encoder: Encoder) -> None:
    with pytest.raises(CheckpointError, match=r"absent: no such folder; expected a starting point"):
        read_start(tmp_path / "absent", "aim")
    with pytest.raises(CheckpointError, match=r"no adapter\.json in it or in a folder below"):
        read_start(tmp_path, "aim")
    with pytest.raises(UnknownNameError, match=r"unknown starting point 'frsh'; did you mean"):
        read_start("frsh", "aim")
    save_adapter(tmp_path / "saved", encoder, "aim", _fresh(encoder, "aim"))
    with pytest.raises(CheckpointError, match="does not say which classes and clips"):
        read_start(tmp_path / "saved", "aim")


def test_a_start_that_lacks_a_fact_or_has_a_wrong_one_is_refused(
    tmp_path: Path, encoder: Encoder
) -> None:
    about = facts(kind="trained")
    del about["clip_names"]
    adapter = _fresh(encoder)
    save_adapter(tmp_path / "s", encoder, "st-adapter", adapter, about={"start": about})
    with pytest.raises(ConfigError, match=r"about\.start: 2 bad values") as raised:
        read_start(tmp_path / "s", "st-adapter")
    assert "clip_names" in str(raised.value)
    assert "'trained'" in str(raised.value)


def test_damaged_folders_are_refused(tmp_path: Path, folder: Path) -> None:
    cut = Path(shutil.copytree(folder, tmp_path / "cut"))
    tensors = cut / "adapter.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:-8])
    with pytest.raises(CheckpointError, match=r"adapter\.safetensors: .* bytes where"):
        read_start(cut, "st-adapter")
    for text in ("{", "[]", '{"adapter": 3}'):
        (cut / "adapter.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"adapter\.json: damaged"):
            read_start(cut, "st-adapter")
    edited = Path(shutil.copytree(folder, tmp_path / "edited"))
    path = edited / "adapter.json"
    path.write_text(path.read_text().replace('"run"', '"sit"'))
    with pytest.raises(CheckpointError, match="changed since it was written"):
        read_start(edited, "st-adapter")


def test_another_method_is_refused_by_both_names(folder: Path, encoder: Encoder) -> None:
    with pytest.raises(CheckpointError, match=r"for 'st-adapter'; expected one for 'aim'"):
        read_start(folder, "aim")
    with pytest.raises(CheckpointError, match=r"a starting point for 'st-adapter'; got A"):
        read_start(folder, "st-adapter").load_into(_fresh(encoder, "aim"), encoder)


def test_other_options_are_refused_by_both_values(folder: Path, encoder: Encoder) -> None:
    start = read_start(folder, "st-adapter")
    with pytest.raises(CheckpointError, match=r"trained with width=None; .* asks for width=3\."):
        start.load_into(_fresh(encoder, width=3), encoder)


def test_another_encoder_is_refused_by_both_names(
    tmp_path: Path, folder: Path, encoder: Encoder
) -> None:
    other = tiny_encoder(tmp_path, mean=0.25)
    start = read_start(folder, "st-adapter")
    with pytest.raises(CheckpointError) as raised:
        start.load_into(_fresh(other), other)
    assert encoder.digest[:12] in str(raised.value)
    assert other.digest[:12] in str(raised.value)


def test_frames_count_only_where_parameters_depend_on_them(
    tmp_path: Path, folder: Path, encoder: Encoder
) -> None:
    longer = _fresh(encoder, copies=2, frames=6)
    read_start(folder, "st-adapter").load_into(longer, encoder)
    make_start(tmp_path / "z", encoder, "zeroi2v")
    start = read_start(tmp_path / "z", "zeroi2v")
    with pytest.raises(CheckpointError, match=r"of 4 frames; you ask for 6"):
        start.load_into(_fresh(encoder, "zeroi2v", copies=2, frames=6), encoder)


def test_the_input_size_counts_only_where_parameters_depend_on_it(
    tmp_path: Path, folder: Path, encoder: Encoder
) -> None:
    larger = tiny_encoder(tmp_path, image_size=64)
    read_start(folder, "st-adapter").load_into(_fresh(larger, copies=2), larger)
    make_start(tmp_path / "f", encoder, "full")
    start = read_start(tmp_path / "f", "full")
    with pytest.raises(CheckpointError, match=r"frames of 32 px; the run has 64 px"):
        start.load_into(_fresh(larger, "full"), larger)


# --- which start is for which adapter -----------------------------------------------------------


def test_a_path_is_for_its_adapter_and_a_folder_of_several_for_all(
    tmp_path: Path, encoder: Encoder
) -> None:
    for name in ("st-adapter", "aim"):
        make_start(tmp_path / "set" / name, encoder, name)
    several, one = str(tmp_path / "set"), str(tmp_path / "set" / "aim")
    found = starts_by_adapter(["frozen", "aim", "st-adapter"], ["fresh", several])
    assert {name: list(own) for name, own in found.items()} == {
        "frozen": ["fresh"],
        "aim": ["fresh", several],
        "st-adapter": ["fresh", several],
    }
    found = starts_by_adapter(["frozen", "aim", "st-adapter"], ["fresh", one])
    assert [list(own) for own in found.values()] == [["fresh"], ["fresh", one], ["fresh"]]
    assert start_name_of(one) == "aim"
    refused = [
        (["frozen"], [one], r"is for 'aim'; .* started are none\. Give --adapter aim"),
        (["lora"], ["fresh", one], r"is for 'aim'; .* started are 'lora'"),
        (["aim", "lora"], [several], r"holds .* for 'aim', 'st-adapter', and none for 'lora'"),
        (["aim", "lora"], [one], r"is for the adapter 'lora'; add one that is, or add fresh"),
        (["aim"], [one, several], "are the same starting point for 'aim'"),
    ]
    for adapters, entries, message in refused:
        with pytest.raises(ConfigError, match=message):
            starts_by_adapter(adapters, entries)


def test_two_for_one_adapter_in_a_folder_are_refused(tmp_path: Path, encoder: Encoder) -> None:
    for name in ("a", "b"):
        make_start(tmp_path / name, encoder, "aim")
    with pytest.raises(CheckpointError, match="two starting points for aim, a and b"):
        starts_by_adapter(["aim"], [str(tmp_path)])


def test_every_shipped_start_can_be_read_and_fits_the_shipped_encoder() -> None:
    for name in names_of_starts():
        for adapter, place in find_starts(name).items():
            start = read_start(name, adapter)
            assert (start.name, start.metadata.adapter.name) == (name, adapter)
            assert start.metadata.encoder.digest == load_encoder("demo").digest
            assert sum(path.stat().st_size for path in place.folder.iterdir()) <= 1.5 * 2**20
