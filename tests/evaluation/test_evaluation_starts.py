"""Evaluations whose adapters begin as starting points."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.errors import CheckpointError, ConfigError, RecordError, UsageError
from fewshot_i2v.evaluation import evaluate, row_expansion
from fewshot_i2v.evaluation.context import EvaluationContext
from fewshot_i2v.evaluation.export import export_episode
from fewshot_i2v.evaluation.inputs import support_labels
from fewshot_i2v.evaluation.row_expansion import expand_rows, load_config
from fewshot_i2v.evaluation.row_runner import RowRunner
from fewshot_i2v.models.checkpoints.starting_point import read_start
from fewshot_i2v.runs.run_folder import read_run
from fewshot_i2v.tuning.finetune import EpisodeInputs, predict
from tests.evaluation.exports import Runs
from tests.models.made_starts import make_start

HEAD = "prototype:pooling=ordered"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """The tiny encoder, split and clips, and starts for two adapters in the folder `set`."""
    runs = Runs(tmp_path_factory.mktemp("started"))
    for name, seed in (("st-adapter", 7), ("aim", 8)):
        make_start(runs.folder / "set" / name, runs.encoder(), name, seeds=(seed,))
    make_start(runs.folder / "meta", runs.encoder(), seeds=(9,), kind="meta-trained")
    return runs


def _config(runs: Runs, output: Path, **changes: Any) -> EvaluationConfig:
    settings = {"adapter": "st-adapter", "head": HEAD, "start": str(runs.folder / "set")}
    return runs.config("x", **(settings | changes | {"output": str(output)}))


def _lines(folder: Path) -> list[dict[str, Any]]:
    keys = ("index", "classes", "support", "query", "predictions", "probabilities", "losses")
    return [{k: getattr(r, k) for k in keys} for r in read_run(folder).records.values()]


def test_rows_of_all_starts_are_of_the_same_episodes(runs: Runs, tmp_path: Path) -> None:
    starts = ["fresh", str(runs.folder / "set"), str(runs.folder / "meta")]
    config = _config(runs, tmp_path, adapter=["frozen", "st-adapter", "aim"], start=starts)
    result = evaluate.run(config)
    assert [(row.adapter, row.start, row.start_name) for row in result.rows] == [
        ("frozen", "fresh", ""),
        ("st-adapter", "fresh", ""),
        ("st-adapter", "base-trained", "set"),
        ("st-adapter", "meta-trained", "meta"),
        ("aim", "fresh", ""),
        ("aim", "base-trained", "set"),
    ]
    lines = [_lines(row.folder) for row in result.rows]
    asked = [[[r[k] for k in ("classes", "support", "query")] for r in row] for row in lines]
    assert all(episodes == asked[0] for episodes in asked)
    said = [[r["probabilities"] for r in row] for row in lines]
    assert all(said[i] != said[j] for i in range(6) for j in range(i))
    _facts, table, *_ = result.table().split("\n\n")
    header, *rows = table.splitlines()
    assert header.split()[:3] == ["adapter", "start", "shot"]
    assert [line.split()[1] for line in rows[1:5]] == ["-", "fresh", "base-trained", "meta-trained"]
    assert "over frozen" in header
    assert "begins as" in result.table(notes=True)
    plain = json.loads(json.dumps(result.to_dict()))["rows"][2]
    assert (plain["start"], plain["start_name"], plain["seen"]) == ("base-trained", "set", False)


@pytest.mark.parametrize(("best_step", "untrained"), [(0, True), (5, False)])
def test_a_start_whose_training_brought_nothing_is_named(
    runs: Runs, tmp_path: Path, best_step: int, untrained: bool
) -> None:
    """The table calls it base-trained, and it is what a fresh adapter is."""
    make_start(tmp_path / "set", runs.encoder(), best_step=best_step)
    config = _config(runs, tmp_path / "run", start=str(tmp_path / "set"), tuning={"steps": 0})
    said = "set, is the untrained adapter, since no later state of its training was better"
    assert (said in " ".join(evaluate.run(config).remarks)) == untrained


@pytest.mark.parametrize("steps", [0, 3])
def test_side_by_side_equals_one_at_a_time(runs: Runs, tmp_path: Path, steps: int) -> None:
    tuning = {"steps": steps, "lr": 0.02}
    three, one = (
        _lines(
            evaluate.run(_config(runs, tmp_path / str(n), at_once=n, tuning=tuning)).rows[0].folder
        )
        for n in (3, 1)
    )
    for a, b in zip(three, one, strict=True):
        assert a["predictions"] == b["predictions"]
        assert len(a["losses"]) == steps
        for p, q in zip(a["probabilities"], b["probabilities"], strict=True):
            assert p == pytest.approx(q, abs=1e-5)


def test_without_steps_it_is_the_start_itself(runs: Runs, tmp_path: Path) -> None:
    """The same predictions whatever the run's seeds would have drawn, and not the frozen ones."""
    config = _config(runs, tmp_path, tuning={"steps": 0})
    runner = RowRunner(expand_rows(config)[0], EvaluationContext.of(config))
    encoder = runner.build_encoder([0, 1, 4])
    start = read_start(runs.folder / "set", "st-adapter")
    for name, value in encoder.adapter.state_dict().items():
        assert torch.equal(value, start.tensors[f"adapter.{name}"].expand_as(value))
    started, fresh, frozen = (
        evaluate.run(_config(runs, tmp_path / n, tuning={"steps": 0}, **c)).rows[0].folder
        for n, c in (
            ("s", {}),
            ("f", {"start": "fresh"}),
            ("z", {"adapter": "frozen", "start": "fresh"}),
        )
    )
    assert _lines(fresh) == _lines(frozen)
    assert _lines(started) != _lines(frozen)


@pytest.mark.parametrize("cells", [0, 2])
def test_an_untuned_start_sees_each_clip_once(runs: Runs, tmp_path: Path, cells: int) -> None:
    """The same scores as one copy of the adapter per episode gives, from features kept by clip."""
    name = f"{HEAD},tokens=grid{cells}" if cells else HEAD
    config = _config(runs, tmp_path, head=name, tuning={"steps": 0}, shot=[1, 2])
    work = EvaluationContext.of(config)
    first, second = (RowRunner(row, work) for row in expand_rows(config))
    specs = work.episodes[1]
    work.decode_clips(
        [name for shots in work.episodes.values() for s in shots for name in s.clip_names()],
        progress=False,
    )
    records = first.run(specs)
    second.run(work.episodes[2])
    assert first.cache_key == second.cache_key
    indices = [spec.index for spec in specs]
    encoder, head = first.build_encoder(indices), first.build_head(indices)
    bank = work.feature_cache(encoder, first.cache_key, head)
    drawn = {name for shots in work.episodes.values() for s in shots for name in s.clip_names()}
    assert bank.clips_encoded == len(drawn)
    kept = work.prefix_cache(encoder, grid_sizes=head.grid_sizes)
    support = kept.gather([[n for row in s.support for n in row] for s in specs])
    query = kept.gather([[n for row in s.query for n in row] for s in specs])
    labels = support_labels(specs, encoder.tower.device)
    alone = predict(encoder, head, EpisodeInputs(lambda _: support, labels, query))
    for record, scores in zip(records, alone.softmax(-1), strict=True):
        assert torch.allclose(torch.tensor(record.probabilities), scores, atol=1e-5)


@pytest.mark.parametrize("tokens", ["summary", "grid2", "summary+grid2+motion"])
def test_the_frozen_encoder_sees_each_clip_once(runs: Runs, tmp_path: Path, tokens: str) -> None:
    """The same scores as features that are computed for every episode by itself."""
    config = _config(runs, tmp_path, adapter="frozen", start="fresh", tokens=tokens)
    (row,) = expand_rows(config)
    work = EvaluationContext.of(config)
    runner = RowRunner(row, work)
    assert runner.is_static
    specs = work.episodes[row.shot]
    names = {name for spec in specs for name in spec.clip_names()}
    work.decode_clips(names, progress=False)
    records = runner.run(specs)
    indices = [spec.index for spec in specs]
    encoder, head = runner.build_encoder(indices), runner.build_head(indices)
    assert work.feature_cache(encoder, runner.cache_key, head).clips_encoded == len(names)
    kept = work.prefix_cache(encoder, grid_sizes=head.grid_sizes)
    support = kept.gather([spec.support_clips for spec in specs])
    query = kept.gather([spec.query_clips for spec in specs])
    labels = support_labels(specs, encoder.tower.device)
    alone = predict(encoder, head, EpisodeInputs(lambda _: support, labels, query))
    for record, scores in zip(records, alone.softmax(-1), strict=True):
        assert torch.allclose(torch.tensor(record.probabilities), scores, atol=1e-5)


def test_options_of_later_versions_do_not_change_the_identity_at_their_defaults(
    runs: Runs, tmp_path: Path
) -> None:
    """So that runs of earlier versions are continued."""

    def _options(**options: Any) -> dict[str, Any]:
        head = {"name": "prototype", **options}
        config = _config(runs, tmp_path, adapter="frozen", start="fresh", head=head)
        (row,) = expand_rows(config)
        _, identity = RowRunner(row, EvaluationContext.of(config)).header()
        methods: dict[str, Any] = identity["methods"]["head"]["options"]
        return methods

    known = {"tokens", "pooling", "center", "metric", "temperature"}
    assert _options().keys() == _options(weights="equal").keys() == known
    assert _options(weights="loo")["weights"] == "loo"


def test_an_estimate_of_an_untuned_start_needs_no_clips(runs: Runs, tmp_path: Path) -> None:
    (row,) = evaluate.dry_run(_config(runs, tmp_path, tuning={"steps": 0}))["cost"]["rows"]
    assert 0 <= row["seconds_per_episode"] < 1


def test_a_start_in_half_precision_runs(runs: Runs, tmp_path: Path) -> None:
    make_start(tmp_path / "half", runs.encoder(), seeds=(7,), half=True)
    make_start(tmp_path / "whole", runs.encoder(), seeds=(7,))
    half, whole = (
        evaluate.run(_config(runs, tmp_path / f"run-{n}", start=str(tmp_path / n))).rows[0]
        for n in ("half", "whole")
    )
    for a, b in zip(_lines(half.folder), _lines(whole.folder), strict=True):
        for p, q in zip(a["probabilities"], b["probabilities"], strict=True):
            assert p == pytest.approx(q, abs=0.02)


def test_another_start_in_the_same_folder_is_another_run(runs: Runs, tmp_path: Path) -> None:
    make_start(tmp_path / "s", runs.encoder())
    config = _config(runs, tmp_path / "out", start=str(tmp_path / "s"))
    first = evaluate.run(config).rows[0]
    assert first.folder.name == "st-adapter-prototype_pooling=ordered-1shot-from-s"
    identity = read_run(first.folder).header["identity"]
    assert identity["config"]["start"] == "s"
    assert identity["start"]["kind"] == "base-trained"
    shutil.rmtree(tmp_path / "s")
    make_start(tmp_path / "s", runs.encoder(), seeds=(11,))
    with pytest.raises(RecordError, match="start"):
        evaluate.run(config)


def test_fresh_rows_say_nothing_of_starts(runs: Runs, tmp_path: Path) -> None:
    tuning = {"recipe": "none", "steps": 1}
    row = evaluate.run(_config(runs, tmp_path, start="fresh", tuning=tuning)).rows[0]
    header = read_run(row.folder).header
    assert header["marks"] == {
        "note": "",
        "uses_names": False,
        "learns_nothing": True,
    }
    assert not {"start"} & {*header, *header["identity"], *header["identity"]["config"]}
    assert "seen" not in json.dumps(header)


def test_what_was_seen_is_refused_before_any_decoding_unless_allowed(
    runs: Runs, tmp_path: Path
) -> None:
    split = load_split(runs.folder / "tiny.yaml")
    trained = list(split.classes("novel"))[:2]
    own = {"name": split.name, "version": split.version, "digest": split.digest}
    make_start(tmp_path / "s", runs.encoder(), split=own, classes=trained, subset="novel")
    for job in (evaluate.run, evaluate.dry_run):
        config = _config(runs, tmp_path / "out", start=str(tmp_path / "s"))
        with pytest.raises(ConfigError, match=rf"2 classes \({trained[0]}, .*--allow-seen"):
            job(config)
    assert not (tmp_path / "out").exists()
    config = _config(runs, tmp_path / "out", start=["fresh", str(tmp_path / "s")], allow_seen=True)
    result = evaluate.run(config)
    assert [row.seen for row in result.rows] == [False, True]
    table = result.table(notes=True)
    assert "base-trained, seen" in table
    assert "seen: the starting point was trained on classes or clips" in " ".join(table.split())
    assert "or its state was chosen on them" in " ".join(table.split())
    marks = read_run(result.rows[1].folder).header["marks"]["start"]
    assert marks["seen"] == {"classes": trained, "clips": 0, "watched": [], "watched_clips": 0}


def test_what_chose_the_state_is_refused_unless_allowed_and_marked(
    runs: Runs, tmp_path: Path
) -> None:
    split = load_split(runs.folder / "tiny.yaml")
    chosen = list(split.classes("novel"))[:2]
    own = {"name": split.name, "version": split.version, "digest": split.digest}
    watched = {"subset": None, "classes": chosen}
    make_start(tmp_path / "s", runs.encoder(), split=own, validation=watched)
    config = _config(runs, tmp_path / "out", start=str(tmp_path / "s"))
    for job in (evaluate.run, evaluate.dry_run):
        with pytest.raises(
            ConfigError, match=r"2 classes .* its state was chosen on.*--allow-seen"
        ):
            job(config)
    assert not (tmp_path / "out").exists()
    row = evaluate.run(config.model_copy(update={"allow_seen": True})).rows[0]
    assert row.seen
    marks = read_run(row.folder).header["marks"]["start"]
    nothing = {"classes": [], "clips": 0, "watched_clips": 0}
    assert marks["seen"] == nothing | {"watched": chosen}


def test_a_start_that_does_not_fit_is_refused_before_any_decoding(
    runs: Runs, tmp_path: Path
) -> None:
    encoder = vars(runs.config("y", adapter="frozen").encoder) | {"mean": 0.4}
    refused: list[tuple[dict[str, Any], str]] = [
        ({"adapter": "st-adapter:width=3"}, r"trained with width=.* asks for width=3"),
        ({"encoder": encoder}, "was trained on"),
    ]
    for changes, message in refused:
        with pytest.raises(CheckpointError, match=message):
            evaluate.run(_config(runs, tmp_path / "out", **changes))
    assert not (tmp_path / "out").exists()


def test_paths_in_a_file_are_relative_to_it(runs: Runs, tmp_path: Path) -> None:
    shutil.copytree(runs.folder / "set", tmp_path / "set")
    (tmp_path / "deep").mkdir()
    text = "split: motions\nadapter: [st-adapter, aim]\nstart: [fresh, {}]\n"
    for i, entry in enumerate(("../set", "set")):
        path = (tmp_path / "deep", tmp_path)[i] / "run.yaml"
        path.write_text(text.format(entry))
        names = {row.start for row in expand_rows(load_config(path))}
        assert names == {"fresh", str(path.parent / entry)}
    (tmp_path / "run.yaml").write_text(text.format("demo-motoins"))
    with pytest.raises(UsageError, match="unknown starting point 'demo-motoins'"):
        load_config(tmp_path / "run.yaml")


def test_starts_of_one_name_are_told_apart_by_their_paths(runs: Runs, tmp_path: Path) -> None:
    places = [tmp_path / seed / "aim" for seed in ("seed-0", "seed-1")]
    for seed, place in enumerate(places):
        make_start(place, runs.encoder(), "aim", seeds=(20 + seed,))
    starts = ["fresh", *map(str, places)]
    config = _config(runs, tmp_path / "out", adapter="aim", start=starts)
    result = evaluate.run(config)
    assert [row.start_name for row in result.rows] == ["", "seed-0/aim", "seed-1/aim"]
    for shown in (result.table(), result.matrix()):
        assert [f"base-trained (seed-{seed}/aim)" in shown for seed in (0, 1)] == [True, True]
    headers = [read_run(row.folder).header for row in result.rows[1:]]
    assert [h["identity"]["config"]["start"] for h in headers] == ["aim", "aim"], "as ever"
    again = evaluate.run(config)
    assert [row.start_name for row in again.rows] == ["", "seed-0/aim", "seed-1/aim"]


def test_clips_that_are_read_unlike_the_start_are_said_to_be(runs: Runs, tmp_path: Path) -> None:
    video = runs.config("x", adapter="frozen").video.model_dump()
    for name, crop in (("same", video["crop"]), ("other", 0.5)):
        trained = {"video": {**video, "crop": crop}, "precision": "bf16"}
        make_start(tmp_path / name, runs.encoder(), frames=video["frames"], config=trained)
    same, other = (
        evaluate.run(_config(runs, tmp_path / "out", start=str(tmp_path / name)))
        for name in ("same", "other")
    )
    assert same.remarks == ()
    assert same.rows[0].note == ""
    (said,) = other.remarks
    assert (
        "st-adapter: clips are read with other settings than for the training of its start, "
        in said
    )
    assert f"{tmp_path / 'other'}: trained with" in said
    assert f"video.crop 0.5, precision bf16; the run has video.crop {video['crop']}" in said
    assert re.search(r"st-adapter( \(|: )read unlike its start", other.table())
    assert "read unlike its start: the run has" in " ".join(other.table(notes=True).split())
    a, b = (read_run(r.rows[0].folder).header["identity"]["config"] for r in (same, other))
    assert a | {"start": "other"} == b
    (row,) = evaluate.dry_run(_config(runs, tmp_path / "p", start=str(tmp_path / "other")))["cost"][
        "rows"
    ]
    assert said in row["remark"]


# --- export -------------------------------------------------------------------------------------


@pytest.mark.parametrize("recipe", ["auto", "none"])
def test_an_episode_is_exported_as_it_was_tuned(
    runs: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: str
) -> None:
    """Whatever the recipes are by then; the export compares its predictions with the record."""
    tuning = {"recipe": recipe, "steps": 1}
    row = evaluate.run(_config(runs, tmp_path / "run", start="fresh", tuning=tuning)).rows[0]
    changed = {"views": 3, "crop_scale": (0.2, 0.4), "lr": 0.3}
    monkeypatch.setattr(
        row_expansion, "find_recipe", lambda name, *_, **__: {} if name == "none" else dict(changed)
    )
    assert runs.export(row.folder, tmp_path / "a").accuracy is not None


def test_an_episode_tuned_from_a_start_is_exported(runs: Runs, tmp_path: Path) -> None:
    make_start(tmp_path / "s", runs.encoder())
    row = evaluate.run(_config(runs, tmp_path / "run", start=str(tmp_path / "s"))).rows[0].folder
    assert runs.export(row, tmp_path / "a").accuracy is not None
    info = json.loads((tmp_path / "a" / "adapter.json").read_text())
    digest = read_run(row).header["identity"]["start"]["digest"]
    assert info["about"]["started_from"] == {"kind": "base-trained", "digest": digest}
    assert info["about"]["config"]["start"] == "s"
    with pytest.raises(CheckpointError, match="does not say which classes"):
        evaluate.run(_config(runs, tmp_path / "again", start=str(tmp_path / "a")))

    moved = (tmp_path / "s").rename(tmp_path / "moved")
    with pytest.raises(ConfigError, match=r"starting point s; .* Give --start"):
        runs.export(row, tmp_path / "b")
    runs.export(row, tmp_path / "b", start=moved)
    with pytest.raises(ConfigError, match=r"the start .* has sha256 .* the run was of"):
        runs.export(row, tmp_path / "c", start=runs.folder / "meta")

    header = json.loads((row / "run.json").read_text())
    del header["start"]  # the folder "" is no other than the current one
    (row / "run.json").write_text(json.dumps(header))
    with pytest.raises(ConfigError, match=r"starting point s; .* Give --start"):
        runs.export(row, tmp_path / "d")


def test_an_adapter_tuned_from_a_start_is_merged(runs: Runs, tmp_path: Path) -> None:
    make_start(tmp_path / "s", runs.encoder(), "lora")
    config = _config(runs, tmp_path / "run", adapter="lora", start=str(tmp_path / "s"))
    row = evaluate.run(config).rows[0].folder
    done = runs.export(row, tmp_path / "x")
    assert done.merged
    assert done.difference < 1e-4


def test_an_export_of_a_fresh_row_takes_no_start(runs: Runs, tmp_path: Path) -> None:
    row = evaluate.run(_config(runs, tmp_path / "run", start="fresh")).rows[0].folder
    with pytest.raises(UsageError, match="began fresh; leave out --start"):
        export_episode(row, 1, tmp_path / "x", start=runs.folder / "set")
