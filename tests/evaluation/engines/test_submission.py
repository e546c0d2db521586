"""Jobs that submitit runs here give the records of one process; needs the extra `slurm`."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from fewshot_i2v.cli._root import cli
from fewshot_i2v.errors import EngineError, UsageError
from fewshot_i2v.evaluation import evaluate
from fewshot_i2v.evaluation.engines import submission
from fewshot_i2v.evaluation.engines.submission import ShardEnd, ShardJob
from fewshot_i2v.runs.episode_record import TIMING_KEYS
from fewshot_i2v.runs.run_folder import read_run
from fewshot_i2v.runs.shards import Shard
from tests.tiny import tiny_folder, tiny_run

SETTINGS: dict[str, Any] = {
    "adapter": ["st-adapter"],
    "head": "prototype",
    "episodes": 6,
    "at_once": 2,
    "tuning": {"steps": 2, "recipe": "none"},
}


@pytest.fixture
def submitit() -> ModuleType:
    module: ModuleType = pytest.importorskip("submitit", reason="needs the extra slurm")
    return module


def records(folder: Path) -> dict[int, Any]:
    return {
        index: {k: v for k, v in record.to_dict().items() if k not in TIMING_KEYS}
        for index, record in read_run(folder).records.items()
    }


def test_without_submitit_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(UsageError, match=r"pip install 'fewshot-i2v\[slurm\]'"):
        submission._import_submitit()


def test_shards_run_as_jobs_give_the_records_of_one_process(tmp_path: Path) -> None:
    """In this process; how the jobs are started is submitit's."""
    tiny_folder(tmp_path)
    (row,) = evaluate.run(tiny_run(tmp_path, tmp_path / "plain", **SETTINGS)).rows
    config = tiny_run(tmp_path, tmp_path / "jobs", **SETTINGS)
    assert [ShardJob(config, Shard(k, 3))() for k in (1, 2, 3)] == [ShardEnd()] * 3
    folder = config.output_folder / row.folder.name
    assert records(folder) == records(row.folder)
    assert len(list(folder.glob("episodes-*-of-3.jsonl"))) == 3


def test_an_error_of_a_shard_is_its_result(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny_folder(tmp_path)
    config = tiny_run(tmp_path, tmp_path / "jobs", **SETTINGS | {"episodes": 1})
    (tmp_path / "tiny.json").unlink()
    end = ShardJob(config, Shard(1, 1))()
    assert end.error is not None
    assert "tiny.json" in end.error
    assert end.error in capsys.readouterr().err


@pytest.mark.usefixtures("submitit")
def test_parameters_that_no_job_has_are_refused(tmp_path: Path) -> None:
    tiny_folder(tmp_path)
    config = tiny_run(tmp_path, tmp_path / "out", **SETTINGS)
    for parameters, message in (
        ({"cluster": "pbs"}, "got cluster=pbs; expected one of slurm, local"),
        ({"timeout_min": "soon", "cluster": "local"}, 'job: Parameter "timeout_min" expected'),
        ({"partition": "gpu"}, "srun"),  # there is no SLURM here
    ):
        with pytest.raises(UsageError, match=message):
            submission.submit_shards(config, 2, parameters)
    until = tiny_run(
        tmp_path,
        tmp_path / "out",
        **{k: v for k, v in SETTINGS.items() if k != "episodes"},
        until=5,
    )
    with pytest.raises(UsageError, match="until: looks at the episodes of all shards"):
        submission.submit_shards(until, 2, {"cluster": "local"})


def test_options_of_sbatch_reach_its_script(submitit: ModuleType, tmp_path: Path) -> None:
    from submitit.slurm.slurm import _make_sbatch_string

    named = {"partition": "gpu", "gpus_per_node": 1, "nice": 10}
    prefixed = submission._prefixed(submitit, named, 4)
    assert prefixed == {
        "slurm_array_parallelism": 4,
        "slurm_additional_parameters": {"nice": 10},
        "slurm_partition": "gpu",
        "gpus_per_node": 1,
    }
    plain = {key.removeprefix("slurm_"): value for key, value in prefixed.items()}
    script = _make_sbatch_string("run", tmp_path, map_count=4, **plain)
    for line in ("--array=0-3%4", "--partition=gpu", "--gpus-per-node=1", "--nice=10"):
        assert f"#SBATCH {line}\n" in script


@pytest.mark.slow
@pytest.mark.usefixtures("submitit")
def test_a_submitted_run_has_the_records_of_one_process(tmp_path: Path) -> None:
    tiny_folder(tmp_path)
    (row,) = evaluate.run(tiny_run(tmp_path, tmp_path / "plain", **SETTINGS)).rows
    config = tiny_run(tmp_path, tmp_path / "jobs", **SETTINGS)
    content = config.model_dump(mode="json", exclude_unset=True)
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    words = ["evaluate", str(tmp_path / "run.yaml"), "--engine", "slurm", "--processes", "3"]
    result = CliRunner().invoke(cli, [*words, "--submit", "--wait", "--job", "cluster=local"])
    assert result.exit_code == 0, (result.output, result.exception)
    assert [line.split("  ")[0] for line in result.stdout.splitlines()] == [
        f"shard {k}/3" for k in (1, 2, 3)
    ]
    assert f"next: fewshot-i2v show {config.output_folder}" in result.stderr
    folder = config.output_folder / row.folder.name
    assert records(folder) == records(row.folder)
    assert sum(len(p.read_bytes().splitlines()) for p in folder.glob("episodes-*-of-3.jsonl")) == 6
    shown = CliRunner().invoke(cli, ["show", str(config.output_folder)])
    assert (shown.exit_code, "INCOMPLETE" in shown.output) == (0, False), shown.output


@pytest.mark.slow
@pytest.mark.usefixtures("submitit")
def test_shards_that_end_badly_are_named_with_their_logs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_folder(tmp_path)
    config = tiny_run(tmp_path, tmp_path / "jobs", **SETTINGS)
    (tmp_path / "sitecustomize.py").write_text(  # in each job: the third is killed
        "import os, signal\n"
        "if os.environ.get('SUBMITIT_LOCAL_JOB_ID'):\n"
        "    from fewshot_i2v.evaluation.engines.submission import ShardJob\n"
        "    call = ShardJob.__call__\n"
        "    def kill_or_call(self):\n"
        "        if self.shard.number == 3:\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return call(self)\n"
        "    ShardJob.__call__ = kill_or_call\n",
        encoding="utf-8",
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=":")
    (tmp_path / "tiny.json").rename(tmp_path / "moved.json")
    shards = submission.submit_shards(config, 3, {"cluster": "local"})
    with pytest.raises(EngineError, match="3 of 3 shards did not end well") as raised:
        submission.wait_for_shards(shards)
    text = str(raised.value)
    assert "shard 1/3: " in text
    assert "tiny.json" in text
    assert "shard 3/3: its process ended without a result" in text
    for shard in shards:
        assert f"log: {shard.log}" in text
        assert shard.log.exists()
    # the same submission continues once the cause is gone
    (tmp_path / "moved.json").rename(tmp_path / "tiny.json")
    (tmp_path / "sitecustomize.py").unlink()
    assert (
        submission.wait_for_shards(submission.submit_shards(config, 3, {"cluster": "local"})) == 0
    )
    (folder,) = (p.parent for p in config.output_folder.rglob("run.json"))
    assert sorted(records(folder)) == list(range(6))
