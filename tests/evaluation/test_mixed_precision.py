"""The precision "mixed": frozen features of fp32, adapted ones of bf16, each bit for bit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fewshot_i2v import FewShotClassifier, fit
from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.errors import EncoderError
from fewshot_i2v.evaluation import evaluate
from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.evaluation.evaluate import build_row_runners
from fewshot_i2v.evaluation.row_runner import RowRunner
from fewshot_i2v.evaluation.row_work import count_work
from fewshot_i2v.evaluation.time_estimate import TimeEstimator
from fewshot_i2v.models import prefix_store
from fewshot_i2v.models.adapters.base.frozen_prefix import PrefixSpec
from fewshot_i2v.models.checkpoints.model_file import SUPPORT_FEATURES
from fewshot_i2v.models.encoders import mixed_tower
from fewshot_i2v.models.encoders.mixed_tower import MixedTower
from fewshot_i2v.models.encoders.tower import Tower
from fewshot_i2v.runs.episode_record import TIMING_KEYS
from fewshot_i2v.runs.run_folder import read_run
from tests.evaluation.exports import Runs
from tests.evaluation.fitting.conftest import Material
from tests.models.made_starts import make_start

HEAD = "prototype:pooling=ordered,center=true"
FROZEN_ALONE = f"{HEAD},tokens=summary+frozen-motion,weights=[0.0,1.0]"
AUGMENTED = {"colour": 0.2, "views": 2}
PRECISIONS = ("mixed", "fp32", "bf16")
Records = list[dict[str, Any]]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The tiny encoder, split and clips, and starts of two adapters in the folder `set`."""
    runs = Runs(tmp_path_factory.mktemp("mixed"))
    for name, seed in (("st-adapter", 7), ("m-adapter", 8)):
        make_start(runs.folder / "set" / name, runs.encoder(), name, seeds=(seed,))
    return runs


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> Material:
    return Material(tmp_path_factory.mktemp("fit"))


def config(runs: Runs, precision: str, **changes: Any) -> EvaluationConfig:
    keys: dict[str, Any] = {"head": HEAD, "precision": precision, "feature_cache": False}
    keys |= {"tuning": {"recipe": "none", "steps": 2, "lr": 0.02}, "episodes": 2}
    return runs.config("x", **keys | changes)


def rows_of(runs: Runs, output: Path, precision: str, **changes: Any) -> list[Records]:
    """Records of each row, without times."""
    result = evaluate.run(config(runs, precision, output=str(output), **changes))
    return [
        [
            {key: value for key, value in record.to_dict().items() if key not in TIMING_KEYS}
            for record in read_run(row.folder).records.values()
        ]
        for row in result.rows
    ]


def values(row: Records) -> Tensor:
    return torch.tensor([record["probabilities"] for record in row])


@pytest.mark.parametrize("augmented", [False, True])
def test_rows_of_the_frozen_encoder_are_those_of_fp32(
    runs: Runs, tmp_path: Path, augmented: bool
) -> None:
    """Also where a head is tuned on them, and where support clips are changed in each step."""
    tuning = {"recipe": "none", "steps": 2, "lr": 0.02} | (AUGMENTED if augmented else {})
    keys = {"adapter": "frozen", "head": [HEAD, f"{HEAD},tokens=grid2+motion", "linear"]}
    rows = {p: rows_of(runs, tmp_path / p, p, **keys, tuning=tuning) for p in PRECISIONS}
    assert rows["mixed"] == rows["fp32"]
    assert all(a != b for a, b in zip(rows["mixed"], rows["bf16"], strict=True))


@pytest.mark.parametrize("augmented", [False, True])
def test_rows_of_adapters_are_those_of_bf16(runs: Runs, tmp_path: Path, augmented: bool) -> None:
    """Fresh, from a start, and from a start as it is; within the blocks and beside them."""
    tuning = {"recipe": "none", "steps": 2, "lr": 0.02} | (AUGMENTED if augmented else {})
    adapters = ["st-adapter", "m-adapter:tokens=all", "m-adapter:tokens=summary"]
    keys = {"adapter": adapters, "start": "fresh", "tuning": tuning}
    started = {"adapter": ["st-adapter", "m-adapter"], "start": str(runs.folder / "set")}
    rows = {
        p: rows_of(runs, tmp_path / f"{p}-fresh", p, **keys)
        + rows_of(runs, tmp_path / p, p, **started, untuned=True, tuning=tuning)
        for p in PRECISIONS
    }
    assert len(rows["mixed"]) == 7
    assert rows["mixed"] == rows["bf16"]
    assert all(a != b for a, b in zip(rows["mixed"], rows["fp32"], strict=True))


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[PrefixSpec, torch.dtype]]:
    """Frozen prefixes that are computed of clips, and the type of their pixels."""
    computed: list[tuple[PrefixSpec, torch.dtype]] = []
    compute = prefix_store.compute_prefix

    def _compute(tower: Tower, spec: PrefixSpec, pixels: Tensor) -> Tensor:
        computed.append((spec, pixels.dtype))
        return compute(tower, spec, pixels)

    monkeypatch.setattr(prefix_store, "compute_prefix", _compute)
    return computed


@pytest.mark.parametrize("adapter", ["st-adapter", "m-adapter"])
def test_a_readout_of_the_frozen_encoder_is_that_of_fp32_in_every_row(
    runs: Runs, tmp_path: Path, adapter: str, passes: list[tuple[PrefixSpec, torch.dtype]]
) -> None:
    """At a weight of zero for what is adapted, rows of an adapter are the frozen row."""
    frozen = {
        p: values(rows_of(runs, tmp_path / f"frozen-{p}", p, head=FROZEN_ALONE)[0])
        for p in ("fp32", "bf16")
    }
    passes.clear()
    keys = {"adapter": adapter, "start": ["fresh", str(runs.folder / "set")], "untuned": True}
    rows = rows_of(runs, tmp_path / "rows", "mixed", **keys, head=FROZEN_ALONE)
    assert len(rows) == 3
    for row in rows:
        torch.testing.assert_close(values(row), frozen["fp32"], atol=1e-6, rtol=0)
    assert (frozen["fp32"] - frozen["bf16"]).abs().max() > 1e-4
    complete = {spec.first_trained_block > 0 and not spec.levels for spec, _ in passes}
    assert complete == {True, False}
    for spec, dtype in passes:
        is_complete = spec.first_trained_block > 0 and not spec.levels
        assert dtype == (torch.float32 if is_complete else torch.bfloat16)


def test_rows_of_several_readouts_of_a_start_read_the_exact_one(runs: Runs, tmp_path: Path) -> None:
    keys = {"adapter": "st-adapter", "start": str(runs.folder / "set"), "tuning": {"steps": 0}}
    heads = [f"{HEAD},tokens=motion", FROZEN_ALONE]
    together = rows_of(runs, tmp_path / "all", "mixed", **keys, head=heads)
    alone = [rows_of(runs, tmp_path / str(i), "mixed", **keys, head=heads[i])[0] for i in (0, 1)]
    assert together == alone


def test_features_on_disk_are_those_of_fp32_and_not_of_bf16(
    tmp_path: Path, passes: list[tuple[PrefixSpec, torch.dtype]]
) -> None:
    runs = Runs(tmp_path)  # with a cache that nobody has written to
    (tmp_path / "cache").unlink()
    keys = {"adapter": "frozen", "feature_cache": True}
    expected = rows_of(runs, tmp_path / "bf16", "bf16", **keys)
    n_clips = len(passes)
    assert n_clips
    exact = rows_of(runs, tmp_path / "mixed", "mixed", **keys)
    assert len(passes) == 2 * n_clips, "nothing of bf16 was read"
    assert rows_of(runs, tmp_path / "fp32", "fp32", **keys) == exact
    assert rows_of(runs, tmp_path / "again", "bf16", **keys) == expected
    assert len(passes) == 2 * n_clips, "both were read"
    assert exact != expected


def made_towers(runner: RowRunner) -> tuple[bool, bool]:
    """Whether the tower of float32 has weights, and that of bfloat16."""
    tower = runner.context.encoder.tower
    assert isinstance(tower, MixedTower)
    return vars(tower.exact).get("blocks") is not None, tower.is_loaded


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Loads of weights."""
    loaded: list[str] = []
    original = mixed_tower.load_encoder

    def _load(**source: Any) -> object:
        loaded.append(source["name"])
        return original(**source)

    monkeypatch.setattr(mixed_tower, "load_encoder", _load)
    return loaded


def ran(settings: EvaluationConfig) -> Iterator[RowRunner]:
    """Yields each row of an evaluation when it has run."""
    context = EvaluationContext.of(settings)
    for runner in build_row_runners(context):
        assert runner.header()
        context.decode_episodes(runner.episodes, runner.row.tuning, progress=False)
        runner.run(runner.episodes)
        yield runner


def test_a_tower_has_weights_only_where_it_computes(runs: Runs, loads: list[str]) -> None:
    frozen, adapted = {"adapter": "frozen"}, {"adapter": ["st-adapter", "aim"]}
    both = {"adapter": ["frozen", "st-adapter"]}
    on_disk = {"feature_cache": True}
    towers = [made_towers(r) for r in ran(config(runs, "mixed", **adapted))]
    assert towers == [(False, True)] * 2, "no frozen feature was computed"
    assert len(loads) == 1
    (tower,) = [made_towers(r) for r in ran(config(runs, "mixed", **frozen))]
    assert tower == (True, False), "no adapter was built"
    assert len(loads) == 2
    towers = [made_towers(r) for r in ran(config(runs, "mixed", **both))]
    assert towers == [(True, True)] * 2
    assert len(loads) == 4, "weights that the first tower took are read again for the other"
    for _ in ran(config(runs, "mixed", **frozen, **on_disk)):
        pass
    loads.clear()
    towers = [made_towers(r) for r in ran(config(runs, "mixed", **both, **on_disk))]
    assert towers == [(False, True)] * 2, "frozen features were on disk"
    assert len(loads) == 1


def test_weights_that_changed_between_the_towers_are_refused(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = vars(config(runs, "mixed").encoder)
    encoder = mixed_tower.load_in_precision("mixed", source, "cpu")
    assert encoder.tower.blocks[0].fc_weight.dtype == torch.bfloat16
    changed = replace(encoder, digest="0" * 64)
    monkeypatch.setattr(mixed_tower, "load_encoder", lambda **_: changed)
    with pytest.raises(EncoderError, match=r"weights changed while they were in use.* run again"):
        _ = encoder.tower.exact.blocks


def test_an_encoder_without_blocks_is_that_of_fp32() -> None:
    encoder = mixed_tower.load_in_precision("mixed", {"name": "pixels"}, "cpu")
    assert encoder.tower.exact is encoder.tower
    assert encoder.tower.dtype == torch.float32


def test_another_word_for_a_precision_is_refused() -> None:
    with pytest.raises(EncoderError, match=r"fp16.*expected mixed, fp32, bf16; a later version"):
        mixed_tower.load_in_precision("fp16", {"name": "pixels"}, "cpu")


def test_copies_of_a_mixed_tower_have_the_exact_weights(runs: Runs) -> None:
    encoder = mixed_tower.load_in_precision("mixed", vars(config(runs, "mixed").encoder), "cpu")
    exact = mixed_tower.load_in_precision("fp32", vars(config(runs, "fp32").encoder), "cpu")
    copy = encoder.tower.to("cpu", torch.float32)
    assert torch.equal(copy.blocks[0].fc_weight, exact.tower.blocks[0].fc_weight)
    assert encoder.tower.to("meta", torch.float32).device.type == "meta"


def test_a_dry_run_measures_each_part_in_its_precision(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    heads = [HEAD, f"{HEAD},tokens=summary+frozen-motion"]
    settings = config(runs, "mixed", adapter=["st-adapter", "m-adapter"], head=heads)
    augmented = config(runs, "mixed", adapter=["frozen"], head="linear", tuning=AUGMENTED)
    for keys in (settings, augmented):
        runners = build_row_runners(EvaluationContext.of(keys))
        estimator = TimeEstimator()
        for runner, work in zip(runners, count_work(runners), strict=True):
            estimate = estimator.estimate(runner, work)
            assert estimate["seconds"] >= 0
            assert estimate["memory_mb"] > 0


MODELS = {
    "frozen": ({"adapter": "frozen", "head": HEAD}, "fp32"),
    "tuned": ({"adapter": "st-adapter", "head": HEAD}, "bf16"),
    "both": ({"adapter": "st-adapter", "head": f"{HEAD},tokens=summary+frozen-motion"}, "mixed"),
    "beside": ({"adapter": "m-adapter", "head": f"{HEAD},tokens=summary+frozen-motion"}, "mixed"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_needs_no_more_than_the_precision_of_its_method(
    material: Material, tmp_path: Path, name: str
) -> None:
    method, precision = MODELS[name]
    tuning = {"recipe": "none", "steps": 2, "lr": 0.02}
    keys = material.keys(**method, tuning=tuning, start="fresh")
    path, clips = tmp_path / "model.safetensors", sorted(material.test.rglob("*.mp4"))[:3]
    model = fit(material.train, path, folds=2, precision="mixed", **keys)
    assert model.model is not None
    assert model.model.description.precision == precision
    expected = model.predict_proba(clips)
    loaded = FewShotClassifier.load(path, cache=material.folder / "cache", workers=1)
    np.testing.assert_array_equal(loaded.predict_proba(clips), expected)
    if precision == "mixed":
        exact = fit(material.train, folds=2, precision="fp32", **keys)
        half = fit(material.train, folds=2, precision="bf16", **keys)
        assert exact.model is not None
        assert half.model is not None
        ours, fp32, bf16 = (
            m.model.tensors[SUPPORT_FEATURES] for m in (model, exact, half) if m.model is not None
        )
        # what it reads of the frozen encoder is that of fp32, and what of the adapted one is not
        assert (ours == fp32).any(0).any()
        assert not torch.equal(ours, fp32)
        assert not torch.equal(ours, bf16)
        return
    same = fit(material.train, folds=2, precision=precision, **keys)
    np.testing.assert_array_equal(same.predict_proba(clips), expected)
