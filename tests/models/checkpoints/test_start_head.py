"""Heads of starting points: read, checked, and given to every copy of a head."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from fewshot_i2v.config.method import MethodSpec
from fewshot_i2v.errors import CheckpointError
from fewshot_i2v.models.checkpoints.adapter_checkpoint import load_adapter, save_adapter
from fewshot_i2v.models.checkpoints.starting_point import read_start
from fewshot_i2v.models.encoders.loading import Encoder
from fewshot_i2v.models.factory import build_head, depends_on_way
from fewshot_i2v.models.heads.base.head import Head
from tests.models.made_starts import facts, make_start
from tests.models.saved import tiny_encoder
from tests.models.tiny_adapters import make_adapter

TRX = "trx:cardinalities=[2],channels=8"


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return tiny_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, encoder: Encoder) -> Path:
    folder = tmp_path_factory.mktemp("starts") / "mine"
    make_start(folder, encoder, head=TRX)
    return folder


def _fresh(encoder: Encoder, head: str = TRX, *, way: int = 3, frames: int = 4) -> Head:
    method = MethodSpec.parse(head)
    return build_head(method, encoder.tower, way=way, frames=frames, seeds=[1, 2])


@pytest.mark.parametrize("way", [3, 5])
def test_every_copy_begins_as_the_head_of_the_start(
    folder: Path, encoder: Encoder, way: int
) -> None:
    start = read_start(folder, "st-adapter")
    assert start.head is not None
    head = _fresh(encoder, way=way)
    start.head.load_into(head)
    for name, value in head.state_dict().items():
        trained = start.head.tensors[f"head.{name}"]
        assert torch.equal(value, trained.expand_as(value))
    with torch.no_grad():
        first = next(head.parameters())
        first[0] += 1
    assert not torch.equal(first[0], first[1]), "the copies do not share memory"
    assert start.tensors.keys().isdisjoint(start.head.tensors)


def test_the_folder_names_method_digest_and_shapes(folder: Path, encoder: Encoder) -> None:
    plain = json.loads((folder / "adapter.json").read_text())
    assert plain["head"]["name"] == "trx"
    assert plain["head"]["options"]["channels"] == 8
    told = plain["about"]["start"]["head"]
    start = read_start(folder, "st-adapter")
    assert start.head is not None
    assert told["digest"] == start.head.digest
    assert told["shapes"]["head.maps.0.key"] == [1, 2 * encoder.tower.width, 8]
    loaded = load_adapter(folder, encoder)
    assert loaded.head is not None
    assert torch.equal(
        loaded.head.state_dict()["maps.0.key"], start.head.tensors["head.maps.0.key"]
    )


def test_the_digest_of_the_adapter_does_not_depend_on_the_head(
    tmp_path: Path, folder: Path, encoder: Encoder
) -> None:
    make_start(tmp_path / "s", encoder)
    without, beside = (read_start(path, "st-adapter") for path in (tmp_path / "s", folder))
    assert without.head is None
    assert without.digest == beside.digest
    assert "head" not in json.loads((tmp_path / "s" / "adapter.json").read_text())["about"]["start"]


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        (TRX, ""),
        ("trx:channels=8,cardinalities=[2],temperature=10.0", ""),
        ("trx:cardinalities=[2],channels=4", r".* channels=4, .* of the start channels=8"),
        ("linear", "it is linear, and the start holds trx"),
    ],
)
def test_a_head_differs_in_name_or_resolved_options(folder: Path, head: str, reason: str) -> None:
    start = read_start(folder, "st-adapter")
    assert start.head is not None
    assert re.fullmatch(reason, start.head.differs_from(MethodSpec.parse(head)))


def test_another_number_of_frames_is_refused_where_parameters_depend_on_it(
    tmp_path: Path, encoder: Encoder
) -> None:
    make_start(tmp_path / "s", encoder, head="linear:pooling=ordered")
    start = read_start(tmp_path / "s", "st-adapter")
    assert start.head is not None
    head = _fresh(encoder, "linear:pooling=ordered", frames=5)
    with pytest.raises(CheckpointError, match=r"clips of 4 frames; you ask for 5.*head\.weight"):
        start.head.load_into(head)


def test_a_head_that_no_training_made_is_ignored(tmp_path: Path, encoder: Encoder) -> None:
    adapter, head = make_adapter("st-adapter", encoder.tower, frames=4), _fresh(encoder)
    about = {"start": facts()}
    save_adapter(tmp_path / "s", encoder, "st-adapter", adapter, "trx", head, about=about)
    assert read_start(tmp_path / "s", "st-adapter").head is None


@pytest.mark.parametrize("change", ["digest", "shapes"])
def test_a_head_that_is_not_what_is_said_of_it_is_refused(
    tmp_path: Path, encoder: Encoder, folder: Path, change: str
) -> None:
    told = json.loads((folder / "adapter.json").read_text())["about"]["start"]["head"]
    told[change] = "0" * 64 if change == "digest" else {"head.weight": [1, 3]}
    adapter, head = make_adapter("st-adapter", encoder.tower, frames=4), _fresh(encoder)
    about = {"start": facts(head=told)}
    save_adapter(tmp_path / "s", encoder, "st-adapter", adapter, "trx", head, about=about)
    with pytest.raises(CheckpointError, match=r"s: damaged: .*about\.start\.head"):
        read_start(tmp_path / "s", "st-adapter")


def test_only_a_classifier_depends_on_the_number_of_classes(encoder: Encoder) -> None:
    depends = {
        name: depends_on_way(MethodSpec.parse(name), encoder.tower, frames=4)
        for name in ("linear", "trx", "prototype")
    }
    assert depends == {"linear": True, "trx": False, "prototype": False}
