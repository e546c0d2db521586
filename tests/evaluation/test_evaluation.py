"""The main job end to end on a tiny encoder and generated clips."""

from __future__ import annotations

import json
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.data.splits.split import Generator
from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.data.synthetic import generate
from fewshot_i2v.errors import ConfigError, RecordError, TooManyFailuresError, TuningError
from fewshot_i2v.evaluation import evaluate, row_runner
from fewshot_i2v.runs.episode_record import TIMING_KEYS
from fewshot_i2v.utils import environment, progress
from tests import killed
from tests.tiny import tiny_folder, tiny_run


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Architecture, split and decoded clips that the tests of this file share."""
    return tiny_folder(tmp_path_factory.mktemp("evaluation"))


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    """Output of the run that `_config` describes, to compare with and to copy."""
    evaluate.run(_config(folder, folder / "whole"))
    return folder / "whole"


def _config(folder: Path, output: Path, **changes: Any) -> EvaluationConfig:
    settings: dict[str, Any] = {
        "adapter": ["st-adapter"],
        "head": ["linear"],
        "shot": [1],
        "episodes": 7,
        "tuning": {"recipe": "none", "steps": 3},
        "at_once": 3,
    }
    return tiny_run(folder, output, **settings | changes)


def _records(path: Path) -> list[dict[str, Any]]:
    lines = (path / "episodes.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in TIMING_KEYS} for line in lines]


def test_rows_records_and_summary(folder: Path, tmp_path: Path) -> None:
    config = _config(folder, tmp_path, adapter=["frozen", "aim"], shot=[1, 3])
    result = evaluate.run(config)
    assert [(r.adapter, r.shot) for r in result.rows] == [
        ("frozen", 1),
        ("frozen", 3),
        ("aim", 1),
        ("aim", 3),
    ]
    for row in result.rows:
        records = _records(row.folder)
        assert [r["index"] for r in records] == list(range(7))
        accuracy = sum(r["accuracy"] for r in records) / 7
        assert row.interval is not None
        assert row.interval.mean == pytest.approx(accuracy)
        summary = json.loads((row.folder / "summary.json").read_text(encoding="utf-8"))
        assert summary["episodes"] == 7
        for r in records:
            right = [p == q for p, q in zip(r["predictions"], r["labels"], strict=True)]
            assert r["accuracy"] == pytest.approx(sum(right) / len(right))
            assert all(abs(sum(p) - 1) < 1e-4 for p in r["probabilities"])
            assert len(r["losses"]) == 3
    table = result.table()
    assert "aim" in table
    assert "frozen" in table
    assert json.loads(json.dumps(result.to_dict()))["rows"][0]["adapter"] == "frozen"


def test_all_rows_name_the_same_episodes_and_shots_are_nested(folder: Path, tmp_path: Path) -> None:
    config = _config(folder, tmp_path, adapter=["frozen", "zeroi2v"], shot=[1, 3])
    rows = {(r.adapter, r.shot): _records(r.folder) for r in evaluate.run(config).rows}
    for shot in (1, 3):
        for a, b in zip(rows["frozen", shot], rows["zeroi2v", shot], strict=True):
            assert [a[k] for k in ("classes", "support", "query")] == [
                b[k] for k in ("classes", "support", "query")
            ]
    for one, three in zip(rows["frozen", 1], rows["frozen", 3], strict=True):
        assert one["query"] == three["query"]
        assert all(set(a) < set(b) for a, b in zip(one["support"], three["support"], strict=True))


def test_running_again_computes_nothing(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _config(folder, tmp_path, episodes=2)
    first = evaluate.run(config)

    def refuse(*_args: object) -> None:
        raise AssertionError("an episode was computed again")

    monkeypatch.setattr(row_runner.RowRunner, "run", refuse)
    again = evaluate.run(config)
    assert again.rows[0].interval == first.rows[0].interval


@pytest.mark.parametrize("kept", [1, 4, 6])
def test_a_run_cut_short_continues_to_the_same_records(
    folder: Path, tmp_path: Path, whole: Path, kept: int
) -> None:
    shutil.copytree(whole, tmp_path / "cut")
    (cut,) = (tmp_path / "cut").iterdir()
    path = cut / "episodes.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:kept]) + lines[kept][:20])
    evaluate.run(_config(folder, tmp_path / "cut"))
    assert _records(cut) == _records(whole / cut.name)
    assert list(cut.glob("episodes.jsonl.torn-*"))


def test_more_episodes_extend_a_run(folder: Path, tmp_path: Path, whole: Path) -> None:
    evaluate.run(_config(folder, tmp_path / "b", episodes=4))
    extended = evaluate.run(_config(folder, tmp_path / "b", episodes=7)).rows[0]
    assert _records(extended.folder) == _records(whole / extended.folder.name)
    fewer = evaluate.run(_config(folder, tmp_path / "b", episodes=4)).rows[0]
    assert fewer.episodes == 4


@pytest.mark.parametrize("adapter", ["st-adapter", "zeroi2v"])
def test_side_by_side_or_alone_the_predictions_are_equal(
    folder: Path, tmp_path: Path, adapter: str
) -> None:
    alone, together = (
        _records(
            evaluate.run(_config(folder, tmp_path / str(n), at_once=n, adapter=[adapter]))
            .rows[0]
            .folder
        )
        for n in (1, 7)
    )
    for a, b in zip(alone, together, strict=True):
        assert a["predictions"] == b["predictions"]
        for p, q in zip(a["probabilities"], b["probabilities"], strict=True):
            assert p == pytest.approx(q, abs=1e-4)


def test_another_setting_in_the_same_folder_is_refused(
    folder: Path, tmp_path: Path, whole: Path
) -> None:
    shutil.copytree(whole, tmp_path / "copy")
    with pytest.raises(RecordError, match=r"tuned without a recipe: --recipe none"):
        evaluate.run(_config(folder, tmp_path / "copy", tuning={"steps": 3}))
    with pytest.raises(RecordError, match=r"tuning\.lr"):
        evaluate.run(_config(folder, tmp_path / "copy", tuning={"steps": 3, "lr": 0.5}))


def test_wrong_options_show_before_any_clip_is_touched(folder: Path, tmp_path: Path) -> None:
    config = _config(folder, tmp_path, adapter=["frozen", "st-adapter:sites=everywhere"])
    with pytest.raises(ConfigError, match="sites"):
        evaluate.run(config)
    assert not list(tmp_path.rglob("*.jsonl"))


def test_augmented_tuning_differs_and_is_repeatable(folder: Path, tmp_path: Path) -> None:
    tuning = {"steps": 3, "flip": "on", "crop_scale": [0.4, 0.9]}
    runs = [
        _records(
            evaluate.run(_config(folder, tmp_path / str(i), tuning=t, episodes=3)).rows[0].folder
        )
        for i, t in enumerate([tuning, tuning, {"steps": 3}])
    ]
    assert runs[0] == runs[1]
    assert runs[0][0]["losses"][1:] != runs[2][0]["losses"][1:]


def _own_folder(tmp_path: Path) -> Path:
    """A split over real files that can be damaged."""
    root = tmp_path / "clips"
    classes = generate.class_names("shapes")[:3]
    names = [generate.clip_name(c, n) for c in classes for n in range(4)]
    generate.write_missing_clips(Generator("shapes", size=32, frames=6), names, root)
    path = tmp_path / "own.yaml"
    path.write_text(
        "name: own\nversion: 1\nsource: here\nlicence: none\nroot: clips\nsubsets:\n"
        f"  novel: [{', '.join(classes)}]\n",
        encoding="utf-8",
    )
    return path


def test_clips_that_were_exchanged_between_two_starts_are_named(
    folder: Path, tmp_path: Path
) -> None:
    split = _own_folder(tmp_path)
    config = _config(folder, tmp_path / "out", split=str(split), episodes=2, query=1)
    (first, *_) = _records(evaluate.run(config).rows[0].folder)
    one, other = (tmp_path / "clips" / first["query"][n][0] for n in (0, 1))
    more = config.model_copy(update={"episodes": 3})
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    with pytest.raises(
        RecordError, match=f"not what they were when the run began: .*{one.name}\\."
    ):
        evaluate.run(more)
    one.unlink()
    one.write_bytes(kept)
    assert len(_records(evaluate.run(more).rows[0].folder)) == 3


def test_an_unreadable_clip_is_named_and_fails_its_episodes(folder: Path, tmp_path: Path) -> None:
    split = _own_folder(tmp_path)
    root = tmp_path / "clips"
    victim = next(root.rglob("*.mp4"))
    good = victim.read_bytes()
    victim.write_bytes(good[: len(good) // 3])
    name = victim.relative_to(root).as_posix()
    config = _config(folder, tmp_path / "out", split=str(split), episodes=12, query=1)
    with pytest.raises(TooManyFailuresError, match=victim.name):
        evaluate.run(config)
    allowed = config.model_copy(update={"max_failed": 12, "output": tmp_path / "allowed"})
    row = evaluate.run(allowed).rows[0]
    records = {r["index"]: r for r in _records(row.folder)}
    assert row.failed == sum(
        name in [c for group in r["support"] + r["query"] for c in group] for r in records.values()
    )
    assert 0 < row.failed < 12
    assert row.episodes == 12 - row.failed
    bad = next(r for r in records.values() if r["status"] == "failed")
    assert bad["error"]["path"] == str(victim)
    assert bad["error"]["reason"]

    again = evaluate.run(allowed).rows[0]  # nothing to do, nothing tried again
    assert (again.episodes, again.failed) == (row.episodes, row.failed)
    first_bad = min(r["index"] for r in records.values() if r["status"] == "failed")
    if first_bad > 0:
        fewer = {"episodes": first_bad, "max_failed": 0}
        assert evaluate.run(allowed.model_copy(update=fewer)).rows[0].failed == 0

    victim.write_bytes(good)
    for stopped_or_not in (config, allowed):
        mended = evaluate.run(stopped_or_not, retry_failed=True).rows[0]
        assert (mended.episodes, mended.failed) == (12, 0)


def test_a_rate_that_diverges_names_row_and_episodes(folder: Path, tmp_path: Path) -> None:
    config = _config(
        folder, tmp_path, tuning={"steps": 3, "lr": 1e30, "clip_norm": None, "warmup": 0.0}
    )
    with pytest.raises(TuningError, match=r"st-adapter-linear-1shot, episodes 0 to 2: .*finite"):
        evaluate.run(config)


def test_a_tower_without_blocks_is_evaluated_frozen(folder: Path, tmp_path: Path) -> None:
    architecture = tmp_path / "resnet.json"
    vision = {"layers": [1, 1, 1, 1], "width": 8, "image_size": 32}
    architecture.write_text(json.dumps({"embed_dim": 16, "vision_cfg": vision}), encoding="utf-8")
    encoder = {"name": "rn", "architecture": str(architecture), "pretrained": "random"}
    config = _config(
        folder, tmp_path, adapter=["frozen"], head=["linear", "prototype"], encoder=encoder
    )
    assert [row.episodes for row in evaluate.run(config).rows] == [7, 7]
    assert len(evaluate.dry_run(config)["cost"]["rows"]) == 2


def test_without_git_the_commit_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    environment.git_commit.cache_clear()
    assert environment.git_commit() is None
    environment.git_commit.cache_clear()


def test_generated_clips_of_two_seeds_never_mix(folder: Path, tmp_path: Path) -> None:
    for name in ("shared", "alone"):
        (tmp_path / name).mkdir()
    text = (folder / "tiny.yaml").read_text(encoding="utf-8")
    (tmp_path / "other.yaml").write_text(text.replace("seed: 0", "seed: 1"), encoding="utf-8")
    runs = [
        evaluate.run(
            _config(folder, tmp_path / str(i), split=split, root=str(tmp_path / root), episodes=3)
        )
        for i, (split, root) in enumerate(
            [
                (str(folder / "tiny.yaml"), "shared"),
                (str(tmp_path / "other.yaml"), "shared"),
                (str(tmp_path / "other.yaml"), "alone"),
            ]
        )
    ]
    _, beside, alone = (_records(run.rows[0].folder) for run in runs)
    assert beside == alone


def test_a_log_says_how_many_clips_are_decoded_and_encoded(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(progress._LogLines, "seconds", 0.0)
    config = _config(folder, tmp_path / "out", adapter=["frozen", "aim"], head="prototype")
    evaluate.run(config, progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith("row 1 of 2: encode 1 of ") for line in lines)
    assert not any("row 2 of 2: encode" in line for line in lines)
    assert any(line.startswith("row 2 of 2: aim 1-shot, ") for line in lines)
    assert "100 %" in lines[-1]
    evaluate.run(config, progress=True)
    again = capsys.readouterr().err
    assert "100 %" in again.splitlines()[-1]
    assert "left" not in again


def test_planning_writes_nothing(folder: Path, tmp_path: Path) -> None:
    plan = evaluate.dry_run(_config(folder, tmp_path / "out", adapter=["frozen", "aim"]))
    assert not (tmp_path / "out").exists()
    assert [row["at_once"] for row in plan["cost"]["rows"]] == [3, 3]
    assert plan["cost"]["rows"][1]["parameters"] > plan["cost"]["rows"][0]["parameters"]
    split = load_split(str(folder / "tiny.yaml"))
    assert set(plan["first_episode"]["classes"]) <= set(split.classes("novel"))
    assert json.loads(json.dumps(plan)) == plan


def test_planning_in_the_folder_of_another_run_is_refused(folder: Path, tmp_path: Path) -> None:
    evaluate.run(_config(folder, tmp_path / "out", episodes=1))
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    before = [path.read_bytes() for path in files]
    assert evaluate.dry_run(_config(folder, tmp_path / "out", episodes=2))["cost"]["rows"]
    for job in (evaluate.dry_run, evaluate.run):
        with pytest.raises(RecordError, match=r"(?s)holds another run.*config.seed: 0 .*, 1 req"):
            job(_config(folder, tmp_path / "out", episodes=1, seed=1))
        assert [path.read_bytes() for path in files] == before


def test_a_device_that_is_not_there_is_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cuda:99"):
        evaluate.run(_config(folder, tmp_path, device="cuda:99"))


def _kill_and_resume(folder: Path, output: Path, delays: list[float]) -> int:
    """Kills a run at each delay after its start, resumes to the end; returns the kills that hit."""
    config = _config(folder, output, episodes=40, at_once=2)
    journal = output / "st-adapter-linear-1shot" / "episodes.jsonl"
    hits = 0
    for delay in delays:
        process = killed.start(evaluate.run, config)
        begun = time.monotonic()
        before = journal.stat().st_size if journal.exists() else 0
        while process.is_alive() and time.monotonic() - begun < 60:
            if journal.exists() and journal.stat().st_size > before:
                break
            time.sleep(0.005)
        time.sleep(delay)
        process.kill()
        process.join()
        hits += process.exitcode == -signal.SIGKILL
    process = killed.start(evaluate.run, config)
    process.join()
    assert process.exitcode == 0
    return hits


def test_killed_and_resumed_equals_uninterrupted(folder: Path, tmp_path: Path) -> None:
    whole = evaluate.run(_config(folder, tmp_path / "whole", episodes=40, at_once=2)).rows[0]
    assert _kill_and_resume(folder, tmp_path / "killed", [0.03]) == 1
    assert _records(tmp_path / "killed" / whole.folder.name) == _records(whole.folder)


@pytest.mark.slow
def test_killed_ten_times_and_resumed_equals_uninterrupted(folder: Path, tmp_path: Path) -> None:
    whole = evaluate.run(_config(folder, tmp_path / "whole", episodes=40, at_once=2)).rows[0]
    delays = [0.002, 0.05, 0.011, 0.03, 0.007, 0.041, 0.019, 0.001, 0.025, 0.013]
    assert _kill_and_resume(folder, tmp_path / "killed", delays) == 10
    assert _records(tmp_path / "killed" / whole.folder.name) == _records(whole.folder)
