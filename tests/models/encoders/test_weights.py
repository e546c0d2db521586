"""Checkpoints are read as data, strictly, or refused by name."""

from __future__ import annotations

import hashlib
import io
import json
import os
import pickle
import struct
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import fewshot_i2v.models.encoders
from fewshot_i2v.errors import EncoderError
from fewshot_i2v.models.encoders import weights

Visual = Callable[..., Any]
State = dict[str, Tensor]


@pytest.fixture
def state(make_visual: Visual) -> State:
    return {name: value.detach().clone() for name, value in make_visual().state_dict().items()}


def whole(state: State) -> State:
    """The state dict of a CLIP model with this visual tower."""
    text = {"token_embedding.weight": torch.ones(3, 2), "logit_scale": torch.ones(())}
    return {f"visual.{name}": value for name, value in state.items()} | text


def wrapped(state: State) -> State:
    return {f"module.{name}": value for name, value in whole(state).items()}


def as_saved(form: str, state: State, folder: Path) -> Path:
    """Writes a checkpoint in one of the forms that are read."""
    if form.endswith(".safetensors"):
        path = folder / "weights.safetensors"
        save_file(whole(state) if form.startswith("whole") else state, path)
        return path
    path = folder / f"weights{Path(form).suffix}"
    forms: dict[str, object] = {
        "whole.pt": whole(state),
        "visual.pth": state,
        "trained.bin": {"epoch": 3, "state_dict": wrapped(state)},
        "parameters.pt": {name: nn.Parameter(value) for name, value in state.items()},
    }
    torch.save(forms[form], path)
    return path


@pytest.mark.parametrize(
    "form",
    [
        "whole.safetensors",
        "visual.safetensors",
        "whole.pt",
        "visual.pth",
        "trained.bin",
        "parameters.pt",
    ],
)
def test_every_form_of_a_checkpoint_gives_the_visual_tower(
    form: str, state: State, tmp_path: Path, make_visual: Visual
) -> None:
    path = as_saved(form, state, tmp_path)
    found = weights.read_checkpoint(path)
    assert set(found.tensors) == set(state)
    assert all(torch.equal(found.tensors[name], value) for name, value in state.items())
    assert found.has_text_tower == form.startswith(("whole", "trained"))
    other = make_visual(seed=1)
    weights.load_strictly(other, found.tensors, str(path))
    assert all(torch.equal(other.state_dict()[name], value) for name, value in state.items())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_any_floating_type_becomes_float32(
    dtype: torch.dtype, state: State, make_visual: Visual
) -> None:
    visual = make_visual(seed=1)
    weights.load_strictly(visual, {name: v.to(dtype) for name, v in state.items()}, "here")
    loaded = visual.state_dict()
    assert {value.dtype for value in loaded.values()} == {torch.float32}
    for name, value in state.items():
        assert torch.equal(loaded[name], value.to(dtype).float())


def break_state(state: State, how: str) -> State:
    name = "transformer.resblocks.1.mlp.c_fc.weight"
    if how == "missing":
        return {key: value for key, value in state.items() if key != name}
    changes: dict[str, Tensor] = {
        "unexpected": torch.ones(1),
        "shape": state[name][:-1],
        "transposed": state[name].T.contiguous(),
        "integer": state[name].to(torch.int8),
        "complex": state[name].to(torch.complex64),
        "sparse": state[name].to_sparse(),
        "meta": state[name].to("meta"),
        "nan": state[name].clone().index_fill_(0, torch.tensor(3), torch.nan),
        "infinite": state[name].clone().index_fill_(0, torch.tensor(3), -torch.inf),
        "endless": torch.zeros(()).expand(1 << 30, 1 << 30),
        "overflow": state[name].double() * 1e60,
    }
    return state | {"extra" if how == "unexpected" else name: changes[how]}


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("missing", r"1 missing \(transformer.resblocks.1.mlp.c_fc.weight\)"),
        ("unexpected", r"1 unexpected \(extra\)"),
        ("shape", r"1 of another shape \(.*c_fc.weight \(63, 32\) instead of \(64, 32\)\)"),
        ("transposed", r"of another shape .*\(32, 64\) instead of \(64, 32\)"),
        ("integer", r"1 of another kind \(transformer.resblocks.1.mlp.c_fc.weight\)"),
        ("complex", "1 of another kind"),
        ("sparse", "1 of another kind"),
        ("meta", "1 of another kind"),
        ("nan", r"NaN or infinite values \(transformer.resblocks.1.mlp.c_fc.weight\)"),
        ("infinite", r"NaN or infinite values \(transformer.resblocks.1.mlp.c_fc.weight\)"),
        ("endless", "1 of another shape"),
        ("overflow", "NaN or infinite values"),
    ],
)
def test_what_does_not_fit_exactly_is_refused_by_name(
    how: str, message: str, state: State, make_visual: Visual
) -> None:
    visual = make_visual(seed=1)
    before = {name: value.clone() for name, value in visual.state_dict().items()}
    with pytest.raises(EncoderError, match=message):
        weights.load_strictly(visual, break_state(state, how), "weights.pt")
    after = visual.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_long_lists_show_the_first_names_only(state: State, make_visual: Visual) -> None:
    with pytest.raises(EncoderError, match=r"^here does not .*31 missing \((\S+, ){5}\.\.\.\)$"):
        weights.load_strictly(make_visual(), {"proj": state["proj"]}, "here")


class Attack:
    """Pickles into a call of `os.system`."""

    def __init__(self, canary: Path) -> None:
        self.canary = canary

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (f"touch {self.canary}",)


def zipped(payload: bytes) -> bytes:
    """The container that torch writes, with a pickle of one's own."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("archive/data.pkl", payload)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    return out.getvalue()


@pytest.mark.parametrize("suffix", weights.SUFFIXES)
@pytest.mark.parametrize("kind", ["bare", "nested", "zipped", "beside tensors"])
def test_hostile_pickles_run_nothing(kind: str, suffix: str, tmp_path: Path) -> None:
    canary, path = tmp_path / "canary", tmp_path / f"weights{suffix}"
    attack = Attack(canary)
    if kind == "beside tensors":
        torch.save({"state_dict": {"proj": torch.ones(2)}, "config": attack}, path)
    else:
        payload = pickle.dumps({"state_dict": {"a": [attack]}} if kind == "nested" else attack)
        path.write_bytes(zipped(payload) if kind == "zipped" else payload)
    start = time.monotonic()
    with pytest.raises(EncoderError, match=str(path)):
        weights.read_checkpoint(path)
    assert time.monotonic() - start < 30
    assert not canary.exists()


def test_the_attack_would_work_on_a_loader_that_runs_pickles(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Attack(tmp_path / "canary")))  # noqa: S301 - the attack is ours
    assert (tmp_path / "canary").exists()


def test_nothing_in_the_package_loads_pickles_unsafely() -> None:
    package = Path(fewshot_i2v.models.encoders.__file__).parents[1]
    sources = {path: path.read_text(encoding="utf-8") for path in package.rglob("*.py")}
    assert not [path for path, text in sources.items() if "weights_only=False" in text]
    loading = [text for text in sources.values() if "torch.load(" in text]
    assert loading
    assert all(text.count("torch.load(") == text.count("weights_only=True)") for text in loading)


def header(entries: dict[str, object], data: bytes = b"") -> bytes:
    """A safetensors file with any header."""
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + data


ENTRY = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
DAMAGED: dict[str, bytes] = {
    "empty": b"",
    "short": b"\x10\x00",
    "huge header": struct.pack("<Q", 1 << 62) + b"{}",
    "many entries": b"",  # large: made in the test
    "overlap": header({"a": ENTRY, "b": ENTRY}, b"\x00" * 8),
    "cut": header({"a": ENTRY}, b"\x00" * 4),
    "hole": header({"a": ENTRY}, b"\x00" * 24),
    "not json": struct.pack("<Q", 4) + b"nope" + b"\x00" * 8,
    "pointer of git lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
}


@pytest.mark.parametrize("how", DAMAGED)
def test_damaged_safetensors_files_are_refused_quickly(how: str, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    many = {f"t{i}": ENTRY for i in range(200_000 if how == "many entries" else 0)}
    path.write_bytes(header(many, b"\x00" * 8) if many else DAMAGED[how])
    start = time.monotonic()
    with pytest.raises(EncoderError, match=str(path)):
        weights.read_checkpoint(path)
    assert time.monotonic() - start < 30


def test_mutated_files_give_tensors_or_an_error_of_ours(state: State, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    refused = 0
    for form in ("visual.safetensors", "whole.pt"):
        path = as_saved(form, state, tmp_path)
        original = path.read_bytes()
        for _ in range(40):
            damaged = bytearray(original)
            for place in torch.randint(2000, (4,), generator=generator).tolist():
                damaged[place] = int(torch.randint(256, (1,), generator=generator))
            path.write_bytes(damaged)
            try:
                weights.read_checkpoint(path)
            except EncoderError:
                refused += 1
    assert refused > 20


def test_what_is_no_checkpoint_file_is_refused(tmp_path: Path) -> None:
    for name in ("weights.npz", "weights", "weights.ckpt"):
        with pytest.raises(EncoderError, match=r"ending in \.safetensors, \.pt, \.pth, \.bin"):
            weights.read_checkpoint(tmp_path / name)
    with pytest.raises(EncoderError, match="no such file"):
        weights.read_checkpoint(tmp_path / "absent.safetensors")
    endless, folder = tmp_path / "endless.pt", tmp_path / "folder.safetensors"
    endless.symlink_to("/dev/zero")
    folder.mkdir()
    for path in (endless, folder):
        with pytest.raises(EncoderError, match=r"is a (device|folder), not a file"):
            weights.read_checkpoint(path)


@pytest.mark.parametrize("content", [[1, 2], {}, {"a": 1}, {1: torch.ones(1)}, torch.ones(2)])
def test_pickled_data_that_is_no_state_dict_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "weights.pt")
    with pytest.raises(EncoderError, match=r"expected (a state dict|only tensors)"):
        weights.read_checkpoint(tmp_path / "weights.pt")


def test_names_of_the_transformers_package_are_recognised(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_file({"vision_model.embeddings.class_embedding": torch.ones(2)}, path)
    with pytest.raises(EncoderError, match="convert the checkpoint to open_clip's names"):
        weights.read_checkpoint(path)


def test_the_digest_is_stable_and_sees_every_change(state: State) -> None:
    base = weights.tensor_digest(state, {"mean": [0.5]})
    assert len(base) == 64
    assert base == weights.tensor_digest(dict(reversed(state.items())), {"mean": [0.5]})
    changed = [state | {name: value.clone()} for name, value in state.items()]
    for name, other in zip(state, changed, strict=True):
        flat = other[name].view(-1)
        flat[-1] = torch.nextafter(flat[-1], torch.tensor(9.0))
    variants = [
        *changed,
        state | {"extra": torch.ones(1)},
        {name: value for name, value in state.items() if name != "proj"},
        state | {"proj": state["proj"].T.contiguous()},
        state | {"proj": state["proj"].half()},
    ]
    digests = [weights.tensor_digest(variant, {"mean": [0.5]}) for variant in variants]
    assert len({base, weights.tensor_digest(state, {"mean": [0.4]}), *digests}) == len(variants) + 2


def test_the_digest_of_known_content_does_not_change() -> None:
    tensors = {"b": torch.arange(3.0), "a": torch.tensor(7, dtype=torch.int64)}
    parts = [
        b'{"mean": [0.5]}',
        b"a torch.int64 ()\n" + struct.pack("<q", 7),
        b"b torch.float32 (3,)\n" + struct.pack("<3f", 0, 1, 2),
    ]
    expected = hashlib.sha256(b"".join(parts)).hexdigest()
    assert weights.tensor_digest(tensors, {"mean": [0.5]}) == expected


def test_random_weights_depend_on_the_seed_alone(make_visual: Visual) -> None:
    first, second = make_visual(seed=1), make_visual(seed=2)
    weights.randomise_weights(first, 0)
    torch.rand(5)
    weights.randomise_weights(second, 0)
    drawn = [name for name, _ in first.named_parameters() if ".ln_" not in f".{name}"]
    for name in drawn:
        assert torch.equal(first.state_dict()[name], second.state_dict()[name]), name
    weight = first.transformer.resblocks[0].mlp.c_fc.weight
    assert 0.9 < weight.std() * 32**0.5 < 1.1
    weights.randomise_weights(second, 1)
    assert not torch.equal(first.conv1.weight, second.conv1.weight)
