"""Parity of the frame-matching heads with official code (see tests/golden/README.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.heads.base.features import class_means, one_hot
from fewshot_i2v.models.heads.base.frame_matching import (
    MatchingHead,
    frame_distances,
    mean_over_shots,
)
from fewshot_i2v.models.heads.bi_mhm import BiMhmHead, BiMhmOptions
from fewshot_i2v.models.heads.otam import OtamHead, OtamOptions
from tests.models.golden_tower import Golden

_HERE = Path(__file__).resolve().parents[2] / "golden"
_SMALL = "matching_3w1s_t8x5"
_REST = ("matching_5w1s_t8", "matching_5w3s_t8")
_SHARED = [pytest.param(name, marks=pytest.mark.shared) for name in _REST]
_CASES = [_SMALL, *_SHARED]
_LAMBDAS = (0.1, 0.5)
# head and options, start of the names in the file
_DISTANCES: list[tuple[str, dict[str, Any], str]] = [
    ("otam", {"lam": 0.1, "eps": 0.01}, "otam.l0.1"),
    ("otam", {"lam": 0.5, "eps": 0.01}, "otam.l0.5"),
    ("bi-mhm", {"reduce": "sum", "eps": 0.01}, "bimhm.eps0.01"),
    ("bi-mhm", {"reduce": "sum"}, "bimhm.norm"),
]
every_distance = pytest.mark.parametrize(
    ("name", "options", "start"), _DISTANCES, ids=[row[2] for row in _DISTANCES]
)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    name: str = request.param
    folder = _HERE if name == _SMALL else request.getfixturevalue("shared") / "golden"
    return Golden.read(folder / f"{name}.safetensors")


def _close(got: Tensor, expected: Tensor, limit: float = 1e-5) -> None:
    torch.testing.assert_close(got.detach(), expected, rtol=0, atol=limit)


def _head(name: str, options: dict[str, Any], golden: Golden) -> MatchingHead:
    *_, frames, width = golden["query"].shape
    sizes: dict[str, Any] = {
        "width": width,
        "way": golden.json("way"),
        "frames": frames,
        "seeds": [0],
    }
    if name == "otam":
        return OtamHead(OtamOptions.model_validate(options | {"temperature": 1.0}), **sizes)
    return BiMhmHead(BiMhmOptions.model_validate(options | {"temperature": 1.0}), **sizes)


def _skip_where_absent(golden: Golden, name: str) -> None:
    if name not in golden.tensors:
        assert golden["query"].shape[1] != golden["support"].shape[1]
        pytest.skip("the file has no such distance of clips of different lengths")


@pytest.mark.parametrize("golden", _CASES, indirect=True)
def test_frame_distances(golden: Golden) -> None:
    got = frame_distances(golden["query"], golden["support"], 0.01)
    _close(got, golden["frame_dist.eps0.01"])
    plain = frame_distances(golden["query"], golden["support"], 0.0)
    assert not torch.allclose(plain, got, atol=1e-3)


@pytest.mark.parametrize("lam", _LAMBDAS)
@pytest.mark.parametrize("golden", _CASES, indirect=True)
def test_alignment_in_both_directions(golden: Golden, lam: float) -> None:
    for directions, theirs in (("query", "q2s"), ("support", "s2q"), ("both", "sum")):
        head = _head("otam", {"lam": lam, "directions": directions, "eps": 0.01}, golden)
        got = head.pairwise_distances(golden["query"], golden["support"])
        _close(got, golden[f"otam.l{lam}.{theirs}"])


@pytest.mark.parametrize("golden", _CASES, indirect=True)
def test_sums_of_nearest_frames(golden: Golden) -> None:
    head = _head("bi-mhm", {"reduce": "sum", "eps": 0.01}, golden)
    _close(head.pairwise_distances(golden["query"], golden["support"]), golden["bimhm.eps0.01.sum"])


@every_distance
@pytest.mark.parametrize("golden", _CASES, indirect=True)
def test_class_and_prototype_distances_and_gradients(
    golden: Golden, name: str, options: dict[str, Any], start: str
) -> None:
    _skip_where_absent(golden, f"{start}.class_dist")
    head = _head(name, options, golden)
    query, support = (golden[n].clone().requires_grad_() for n in ("query", "support"))
    members = one_hot(golden["support_labels"][None], head.way)
    distances = mean_over_shots(head.pairwise_distances(query[None], support[None]), members)[0]
    _close(distances, golden[f"{start}.class_dist"])
    prototypes = class_means(support[None], members)
    _close(head.pairwise_distances(query[None], prototypes)[0], golden[f"{start}.proto_dist"])
    distances.square().sum().backward()  # type: ignore[no-untyped-call]
    for side, tensor in (("query", query), ("support", support)):
        expected = golden[f"grad.{start}.class_dist.{side}"]
        assert tensor.grad is not None
        _close(tensor.grad, expected, 1e-4 * float(expected.norm()))


@every_distance
@pytest.mark.parametrize("shots", ["mean", "prototype"])
@pytest.mark.parametrize("golden", _SHARED, indirect=True)
def test_scores_are_minus_the_official_distances(
    golden: Golden, name: str, options: dict[str, Any], start: str, shots: str
) -> None:
    head = _head(name, options | {"shots": shots}, golden)
    query, support = (
        Features(golden[n][None], golden[n][None].mean(-2)) for n in ("query", "support")
    )
    theirs = golden[f"{start}.{'class_dist' if shots == 'mean' else 'proto_dist'}"]
    scores = head(query, support, golden["support_labels"][None])
    _close(scores[0], -theirs)


@pytest.mark.shared
def test_the_copy_is_the_shared_file(shared: Path) -> None:
    copy = (_HERE / f"{_SMALL}.safetensors").read_bytes()
    assert copy == (shared / "golden" / f"{_SMALL}.safetensors").read_bytes()
