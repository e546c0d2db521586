"""A saved adapter that is damaged, forged or of something else is refused, with the reason."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from fewshot_i2v import load_adapter, load_merged, save_adapter
from fewshot_i2v.errors import CheckpointError, FewshotError
from fewshot_i2v.models.checkpoints import files
from fewshot_i2v.models.encoders.loading import Encoder, load_encoder
from fewshot_i2v.models.encoders.open_clip_conversion import open_clip_state_dict
from tests.models.saved import WAY, features_of, make_head, moved_adapter, tiny_encoder


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return tiny_encoder(tmp_path_factory.mktemp("damage"))


@pytest.fixture(scope="module")
def saved(encoder: Encoder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an adapter and a head, never changed."""
    folder = tmp_path_factory.mktemp("saved") / "zeroi2v"
    adapter, head = moved_adapter("zeroi2v", encoder), make_head("linear", encoder)
    save_adapter(folder, encoder, "zeroi2v", adapter, "linear", head)
    return folder


@pytest.fixture
def copy(saved: Path, tmp_path: Path) -> Path:
    """The same, to be damaged."""
    return Path(shutil.copytree(saved, tmp_path / "copy"))


def _refused(folder: Path, encoder: Encoder, pattern: str, **asked: Any) -> None:
    with pytest.raises(CheckpointError, match=pattern) as error:
        load_adapter(folder, encoder, **asked)
    assert str(folder) in str(error.value)


def test_tensors_that_were_read_outlive_their_file(copy: Path) -> None:
    tensors = files.read_tensors(copy, files.read_metadata(copy))
    os.truncate(copy / "adapter.safetensors", 0)
    # where they are still mapped, this ends the process
    assert all(tensor.isfinite().all() for tensor in tensors.values())


def test_another_encoder_is_refused_with_both_digests(
    saved: Path, encoder: Encoder, tmp_path: Path
) -> None:
    other = tiny_encoder(tmp_path, mean=0.25)
    mine, yours = encoder.digest[:12], other.digest[:12]
    _refused(saved, other, rf"trained on tiny .*sha256 {mine}.*you gave tiny .*sha256 {yours}")
    _refused(saved, other, r"mean of the pixels \[0\.25, 0\.25, 0\.25\] where it was \[0\.5,")
    large = tiny_encoder(tmp_path, image_size=48, std=0.25)
    _refused(saved, large, r"trained on .* 32 px\); you gave .* 48 px")
    _refused(
        saved, large, r"differs: image size 48 where it was 32, std of the pixels \[0\.25, .*0\.5"
    )
    weights = tmp_path / "weights.safetensors"
    save_file({n: t + 1 for n, t in open_clip_state_dict(encoder.tower).items()}, weights)
    trained = load_encoder(
        "tiny", architecture=tmp_path / "tiny.json", pretrained=weights, mean=0.5, std=0.5
    )
    _refused(saved, trained, r"differs: .*weights weights\.safetensors where it was random")


def test_folders_from_before_a_key_was_added_can_be_read(
    saved: Path, encoder: Encoder, tmp_path: Path
) -> None:
    info = files.read_metadata(saved)
    old = info.model_dump(exclude={"tensors": True, "files": True, "encoder": {"mean", "std"}})
    files.write_checkpoint(tmp_path, old, files.read_tensors(saved, info))
    written = json.loads((tmp_path / "adapter.json").read_text(encoding="utf-8"))
    assert "files" not in written
    assert "mean" not in written["encoder"]
    assert load_adapter(tmp_path, encoder).metadata.encoder.mean is None


def test_what_is_no_encoder_or_no_saved_adapter_is_named(
    saved: Path, encoder: Encoder, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match=r"encoder: got 'ViT-B-16' \(str\); expected what"):
        load_adapter(saved, "ViT-B-16")  # type: ignore[arg-type]
    with pytest.raises(CheckpointError, match=r"encoder: got 'demo' \(str\)"):
        save_adapter(tmp_path / "x", "demo", "frozen", None)  # type: ignore[arg-type]
    row = tmp_path / "run" / "a-b-5shot"
    row.mkdir(parents=True)
    (row / "run.json").write_text("{}")
    for folder in (row, row.parent):
        _refused(folder, encoder, f"fewshot-i2v export {row} --episode 0")
    _refused(tmp_path / "no", encoder, "there is no such folder")
    _refused(tmp_path, encoder, "expected a folder with a saved adapter")


def test_another_method_or_head_is_refused(saved: Path, encoder: Encoder) -> None:
    _refused(saved, encoder, "holds the adapter 'zeroi2v'; expected 'aim'", adapter="aim")
    _refused(saved, encoder, "holds the head 'linear'; expected 'otam'", head="otam")


def test_other_frames_are_refused_where_parameters_depend_on_them(
    saved: Path, encoder: Encoder, tmp_path: Path
) -> None:
    _refused(
        saved, encoder, r"trained on clips of 4 frames; you ask for 6.*temporal_embedding", frames=6
    )
    adapter = moved_adapter("st-adapter", encoder)
    ordered = make_head("linear", encoder, pooling="ordered")
    save_adapter(tmp_path / "a", encoder, "st-adapter", adapter)
    save_adapter(tmp_path / "b", encoder, "st-adapter", adapter, "linear", ordered)
    longer = load_adapter(tmp_path / "a", encoder, frames=6).adapter
    assert features_of(encoder, longer, frames=6).frames.shape == (1, 2 * WAY, 6, 32)
    _refused(tmp_path / "b", encoder, r"head\.weight .*\(1, 128, 3\).*\(1, 192, 3\)", frames=6)


@pytest.mark.parametrize(
    ("key", "value", "pattern"),
    [
        ("schema_version", 2, r"schema version 2; .* reads 1"),
        ("schema_version", "1", "schema version '1'"),
        ("frames", 4.5, "damaged: frames"),
        ("extra", 1, "damaged: extra"),
        ("classes", ["x"], "not the one that adapter.safetensors was written with"),
        ("head_offsets", [1, -1], "not the one that adapter.safetensors was written with"),
        ("about", {"accuracy": 1.0}, "not the one that adapter.safetensors was written with"),
    ],
)
def test_a_changed_description_is_refused(
    key: str, value: object, pattern: str, copy: Path, encoder: Encoder
) -> None:
    path = copy / "adapter.json"
    plain = json.loads(path.read_text(encoding="utf-8")) | {key: value}
    path.write_text(json.dumps(plain), encoding="utf-8")
    _refused(copy, encoder, pattern)


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, '{"schema_version": NaN}', "1"])
def test_a_description_that_is_none_is_refused(text: str, copy: Path, encoder: Encoder) -> None:
    (copy / "adapter.json").write_text(text, encoding="utf-8")
    _refused(copy, encoder, r"damaged|schema version None")


def test_a_huge_or_absent_description_is_refused(copy: Path, encoder: Encoder) -> None:
    path = copy / "adapter.json"
    with path.open("ab") as file:
        file.truncate(65 << 20)
    _refused(copy, encoder, "more than 67108864 bytes")
    path.unlink()
    _refused(copy, encoder, "no such file")
    _refused(copy / "nowhere", encoder, "no such file")


def test_damaged_tensors_are_refused(copy: Path, encoder: Encoder) -> None:
    path = copy / "adapter.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    _refused(copy, encoder, f"{len(whole) - 1} bytes where adapter.json says {len(whole)}")
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    _refused(copy, encoder, "changed since it was written, or the two files do not belong together")
    path.unlink()
    _refused(copy, encoder, "no such file")


def test_files_of_two_folders_do_not_go_together(
    copy: Path, encoder: Encoder, tmp_path: Path
) -> None:
    other = moved_adapter("zeroi2v", encoder, (5, 6))
    save_adapter(tmp_path / "x", encoder, "zeroi2v", other, "linear", make_head("linear", encoder))
    shutil.copy(tmp_path / "x" / "adapter.safetensors", copy)
    _refused(copy, encoder, "do not belong together")


def _forged(folder: Path, data: bytes) -> None:
    """Puts other bytes in place of the tensors, and their digest into the description."""
    (folder / "adapter.safetensors").write_bytes(data)
    path = folder / "adapter.json"
    plain = json.loads(path.read_text(encoding="utf-8"))
    plain["tensors"] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    path.write_text(json.dumps(plain), encoding="utf-8")


class _Bomb:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("canary",)


def test_nothing_but_safetensors_is_read(
    copy: Path, encoder: Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"adapter.x": _Bomb()}, tmp_path / "bomb.pt")
    _forged(copy, (tmp_path / "bomb.pt").read_bytes())
    _refused(copy, encoder, r"a header of \d+ bytes|not a safetensors file")
    assert not (tmp_path / "canary").exists()
    _forged(copy, (1 << 40).to_bytes(8, "little") + bytes(100))
    _refused(copy, encoder, f"a header of {1 << 40} bytes")
    _forged(copy, (90).to_bytes(8, "little") + bytes(100))
    _refused(copy, encoder, "not a safetensors file")


def test_tensors_without_a_description_of_theirs_are_refused(copy: Path, encoder: Encoder) -> None:
    path = copy / "adapter.safetensors"
    save_file(load_file(path), path)
    _forged(copy, path.read_bytes())
    _refused(copy, encoder, "not the one that adapter.safetensors was written with")


def _rename(tensors: dict[str, Tensor]) -> None:
    tensors["adapter.other"] = tensors.pop("adapter.ln_post.bias")


def _cut(tensors: dict[str, Tensor]) -> None:
    tensors["adapter.ln_post.bias"] = tensors["adapter.ln_post.bias"][:, :-1].clone()


def _halve(tensors: dict[str, Tensor]) -> None:
    tensors["head.bias"] = tensors["head.bias"].half()


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        (_rename, r"2 tensors are missing or too many \(adapter.ln_post.bias, adapter.other\)"),
        (_cut, r"adapter.ln_post.bias is float32 \(1, 31\) and should be float32 \(1, 32\)"),
        (_halve, r"head.bias is float16 \(1, 3\) and should be float32"),
    ],
)
def test_tensors_that_do_not_fit_are_refused(
    change: Callable[[dict[str, Tensor]], None],
    pattern: str,
    saved: Path,
    encoder: Encoder,
    tmp_path: Path,
) -> None:
    info = files.read_metadata(saved)
    tensors = files.read_tensors(saved, info)
    change(tensors)
    files.write_checkpoint(tmp_path, info.model_dump(exclude={"tensors"}), tensors)
    _refused(tmp_path, encoder, pattern)


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        (
            {"adapter": {"name": "my-own", "options": {}, "preset": None}},
            r"unknown adapter 'my-own'; .*FEWSHOT_I2V_PLUGINS name .* holds adapters/my_own\.py",
        ),
        (
            {"adapter": {"name": "zeroi2v", "options": {"scal": 1}, "preset": None}},
            "unknown option 'scal'.*adapter 'zeroi2v'",
        ),
        ({"head_offsets": [1, -1]}, r"saved with the head offsets \[1, -1\]; .* has \[-1, 1\]"),
    ],
)
def test_methods_that_are_not_here_are_named(
    change: dict[str, Any], pattern: str, saved: Path, encoder: Encoder, tmp_path: Path
) -> None:
    info = files.read_metadata(saved)
    tensors = files.read_tensors(saved, info)
    files.write_checkpoint(tmp_path, info.model_dump(exclude={"tensors"}) | change, tensors)
    with pytest.raises(FewshotError, match=f"(?s){pattern}") as error:
        load_adapter(tmp_path, encoder)
    assert str(tmp_path) in str(error.value)


def test_a_folder_without_merged_weights_says_so(saved: Path) -> None:
    with pytest.raises(CheckpointError, match=r"zeroi2v was saved beside .*load_adapter"):
        load_merged(saved)
