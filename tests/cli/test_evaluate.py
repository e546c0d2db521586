"""`fewshot-i2v evaluate`: flags become configuration keys, results become a table or JSON."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click
import pytest

from fewshot_i2v.cli._flags import KeyFlag
from fewshot_i2v.cli.evaluate import command
from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.config.keys import config_keys
from fewshot_i2v.evaluation.engines import pools
from fewshot_i2v.evaluation.row_execution import ALL_EPISODES, EpisodeSelection
from fewshot_i2v.evaluation.row_expansion import expand_rows
from fewshot_i2v.runs.shards import Shard
from tests.cli.conftest import FakeEvaluation, Invoke

# A command remembers its help option, with the names of the first context that asks for it.
PARAMS = command.get_params(click.Context(command, help_option_names=["-h", "--help"]))
FLAGS = [param for param in PARAMS if isinstance(param, KeyFlag)]


def test_every_flag_sets_an_existing_key_and_all_but_a_few_keys_have_one() -> None:
    flagged = {flag.key for flag in FLAGS}
    assert len(flagged) == len(FLAGS)
    keys = config_keys(EvaluationConfig)
    assert flagged <= keys.keys()
    assert keys.keys() - flagged == {
        *("name", "source", "recipes", "tuning.batch", "tuning.crop_scale", "video.backend"),
        *("tuning.label_smoothing", "citation"),
    }


def test_texts_of_classes_are_read_from_the_file_of_the_flag(
    evaluation: FakeEvaluation, invoke: Invoke, tmp_path: Path
) -> None:
    file = tmp_path / "texts.yaml"
    file.write_text("moves-up: [rises, goes up]\n", encoding="utf-8")
    result = invoke("evaluate", "--head", "tip", "--class-texts", str(file), "--dry-run")
    assert result.exit_code == 0, result.output
    assert evaluation.config is not None
    texts = evaluation.config.class_texts
    assert texts is not None
    assert texts.by_class["moves-up"].names == ("rises", "goes up")
    assert f"class_texts {file}" in " ".join(result.stderr.split())
    refused = invoke("evaluate", "--head", "linear", "--class-texts", str(file))
    assert refused.exit_code == 2
    assert f"class_texts: got texts {file}, and no head reads class names" in refused.stderr


def test_the_words_of_a_flag_are_those_of_the_configuration() -> None:
    choices = {flag.key: flag.type.choices for flag in FLAGS if isinstance(flag.type, click.Choice)}
    assert choices["video.policy"] == ("segment-center", "uniform", "dense")
    assert choices["tuning.schedule"] == ("cosine", "constant")
    assert choices["precision"] == ("auto", "mixed", "fp32", "bf16")
    assert all(flag.help for flag in FLAGS)


def test_the_flags_of_keys_are_not_made_before_they_are_needed() -> None:
    """So that the list of commands does not wait for pydantic."""
    program = (
        "import sys, fewshot_i2v.cli.evaluate, fewshot_i2v.cli.train, fewshot_i2v.cli.export; "
        "assert 'pydantic' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def given(evaluation: FakeEvaluation) -> dict[str, Any]:
    assert evaluation.config is not None
    return evaluation.config.model_dump(mode="json")


def test_a_shard_and_a_range_of_episodes_are_what_is_run(
    invoke: Invoke, evaluation: FakeEvaluation
) -> None:
    result = invoke("evaluate", "--shard", "2/3", "--episodes", "4:8")
    assert result.exit_code == 0
    assert given(evaluation)["episodes"] == 8
    assert evaluation.asked["selection"] == EpisodeSelection(Shard(2, 3), first=4)


def test_an_engine_starts_the_workers(
    invoke: Invoke, evaluation: FakeEvaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[tuple[Any, ...]] = []

    class Pool:
        def __init__(self, *arguments: Any, **more: Any) -> None:
            started.append((*arguments, more))

        def close(self) -> None:
            started.append(("closed",))

    monkeypatch.setattr(pools, "start_workers", Pool)
    result = invoke("evaluate", "--engine", "processes", "--gpus", "1,0")
    assert result.exit_code == 0
    assert evaluation.asked["selection"] == ALL_EPISODES
    assert isinstance(evaluation.asked["pool"], Pool)
    settings = {"processes": None, "gpus": (1, 0), "address": None}
    assert started == [("processes", evaluation.config, settings), ("closed",)]


def test_without_arguments_it_runs_quickstart(invoke: Invoke, evaluation: FakeEvaluation) -> None:
    result = invoke("evaluate")
    assert result.exit_code == 0
    assert given(evaluation)["name"] == "quickstart"
    assert evaluation.asked == {
        "progress": True,
        "retry_failed": False,
        "selection": ALL_EPISODES,
        "pool": None,
    }
    assert "frozen" in result.stdout
    assert "62.5" in result.stdout
    head, _, rest = result.stderr.partition("\n\n")
    assert head.startswith("split motions, encoder demo; settings that are not the defaults:\n")
    assert "  quickstart: query" not in head
    assert "video.crop 1.0" in head
    assert "flags" not in head
    assert rest.strip() == "records are in runs/x\n\nnext: fewshot-i2v recommend runs/x"


def test_on_clips_of_one_s_own_the_defaults_hold_and_flags_are_told(
    invoke: Invoke, evaluation: FakeEvaluation
) -> None:
    result = invoke("evaluate", "--split", "mine.yaml", "--crop", "0.5", "--root", "clips")
    assert given(evaluation)["video"]["crop"] == 0.5
    assert given(evaluation)["episodes"] == 200
    assert "quickstart" not in result.stderr
    assert "  flags: video.crop 0.5\n" in result.stderr
    assert "adapter frozen alone" in result.stderr
    without = invoke("evaluate", "--split", "mine.yaml").stderr
    assert without.startswith("split mine.yaml, encoder demo\nadapter frozen alone")


def test_flags_win_over_the_file(
    invoke: Invoke, evaluation: FakeEvaluation, tmp_path: Path
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        "split: shapes\nadapter: frozen\nway: 3\nseed: 4\nmax_failed: 7\ndeterministic: true\n"
        "tuning: {clip_norm: 2.0, warmup: 0.5, flip: on}\n"
    )
    args = (
        "--way 4 --shot 1 --shot 5 --adapter st-adapter:width=8 --adapter aim --head prototype "
        "--max-failed 0 --no-deterministic --clip-norm off --warmup 0 --flip off --lr 1e-4 "
        "--mean 0.5 --std 0.2,0.3,0.4 --at-once 3 --frames 4 --crop 1 -o there --root clips"
    )
    assert invoke("evaluate", str(path), *args.split()).exit_code == 0
    config = given(evaluation)
    assert (config["way"], config["seed"], config["split"]) == (4, 4, "shapes")
    assert (config["shot"], config["max_failed"], config["deterministic"]) == ([1, 5], 0, False)
    assert config["adapter"][0] == {"name": "st-adapter", "options": {"width": 8}}
    tuning = config["tuning"]
    assert (tuning["clip_norm"], tuning["warmup"], tuning["flip"]) == (None, 0.0, "off")
    assert tuning["lr"] == 1e-4
    assert (config["encoder"]["mean"], config["encoder"]["std"]) == (0.5, [0.2, 0.3, 0.4])
    assert (config["at_once"], config["video"]["frames"], config["video"]["crop"]) == (3, 4, 1.0)
    assert (config["output"], config["root"]) == ("there", "clips")


def test_words_stand_beside_numbers(invoke: Invoke, evaluation: FakeEvaluation) -> None:
    assert invoke("evaluate", "--at-once", "auto", "--clip-norm", "0.5").exit_code == 0
    assert given(evaluation)["at_once"] == "auto"
    assert given(evaluation)["tuning"]["clip_norm"] == 0.5
    for flag, value in (("--clip-norm", "of"), ("--at-once", "1.5"), ("--mean", "1,2")):
        result = invoke("evaluate", flag, value)
        assert result.exit_code == 2
        assert flag in result.stderr


def test_set_reaches_every_key(invoke: Invoke, evaluation: FakeEvaluation) -> None:
    args = ["--set", "tuning.crop_scale=[0.5, 1]", "--set", "recipes.aim.lr=1e-4"]
    assert invoke("evaluate", *args).exit_code == 0
    assert given(evaluation)["tuning"]["crop_scale"] == [0.5, 1.0]
    assert given(evaluation)["recipes"] == {"aim": {"lr": 1e-4}}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--set", "tuning.lr"], "expected KEY=VALUE"),
        (["--lr", "1", "--set", "tuning.lr=2"], "tuning.lr: is set twice"),
        (["--set", "way=3", "--set", "way=4"], "way: is set twice"),
        (["--set", "tuning.lrr=3"], "did you mean 'tuning.lr'"),
        (["--adapter", "frozn"], "did you mean 'frozen'?"),
        (["--way", "1"], "way: got 1 (from a flag or override); expected a whole number"),
        (["nope"], "unknown config 'nope'"),
    ],
)
def test_wrong_use_ends_with_status_2_and_a_message(
    invoke: Invoke, evaluation: FakeEvaluation, args: list[str], message: str
) -> None:
    result = invoke("evaluate", *args)
    assert result.exit_code == 2
    assert message in result.stderr
    assert evaluation.config is None


def test_real_clips_with_the_toy_encoder_are_warned_of_first(
    invoke: Invoke, evaluation: FakeEvaluation, tmp_path: Path
) -> None:
    said = invoke("evaluate", "--split", "hmdb51-otam", "--root", str(tmp_path)).stderr
    assert said.count("warning: encoder demo is a toy; for real clips: --encoder ViT-B-16") == 1
    another_encoder = ("--encoder", "ViT-B-16", "--pretrained", "openai")
    other = invoke(
        "evaluate", "--split", "hmdb51-otam", "--root", str(tmp_path), *another_encoder
    ).stderr
    assert "toy" not in other
    assert "toy" not in invoke("evaluate").stderr, "generated clips are what it is for"


def test_failed_episodes_within_the_limit_give_status_3(
    invoke: Invoke, evaluation: FakeEvaluation
) -> None:
    evaluation.failed = 1
    result = invoke("evaluate", "--max-failed", "2", "--retry-failed")
    assert result.exit_code == 3
    assert "62.5" in result.stdout
    assert evaluation.asked["retry_failed"] is True


def test_json_is_all_there_is_on_standard_output(
    invoke: Invoke, evaluation: FakeEvaluation
) -> None:
    result = invoke("evaluate", "--json", "--quiet")
    assert evaluation.asked["progress"] is False
    data = json.loads(result.stdout)
    assert (data["split"], data["rows"][0]["interval"]["mean"]) == ("motions", 0.625)
    assert result.stderr == ""
    assert evaluation.config is not None


def test_a_dry_run_shows_the_plan_and_runs_nothing(
    invoke: Invoke, evaluation: FakeEvaluation
) -> None:
    data = json.loads(invoke("evaluate", "--dry-run", "--json", "--way", "3").stdout)
    assert (data["config"]["way"], data["cost"]["clips"]) == (3, 3)
    result = invoke("evaluate", "--dry-run", "--way", "3", "--until", "2")
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["adapter", "start", "shot", "episodes", "clips", "time", "MiB"]
    assert lines[2].split() == ["frozen", "-", "1", "4", "3", "2", "min", "1,200"]
    assert lines[3].split() == ["total", "3", "2", "min", "1,200"]
    text = " ".join(result.stdout.split())
    assert "An estimate for cpu" in text
    assert "1 adapter and 2 heads" in text
    assert "unless cached: to generate 3 clips, about 2.0 s" in text
    assert "before the first look" in text
    assert text.endswith("slow")
    assert max(map(len, lines)) <= 100
    next_line = result.stderr.splitlines()[-1]
    assert next_line == "next: fewshot-i2v evaluate --way 3 --until 2"
    assert evaluation.asked == {}


def test_a_quiet_dry_run_has_the_table_alone(invoke: Invoke, evaluation: FakeEvaluation) -> None:
    result = invoke("evaluate", "--dry-run", "--quiet")
    assert (result.stdout.split()[0], result.stderr) == ("adapter", "")


def test_ctrl_c_says_how_to_go_on(invoke: Invoke, evaluation: FakeEvaluation) -> None:
    evaluation.raises = KeyboardInterrupt()
    result = invoke("evaluate", "-o", "there")
    assert (result.exit_code, result.stdout) == (130, "")
    assert "finished episodes are in there; the same command goes on from there" in result.stderr


def test_ctrl_c_before_the_run_is_130_too(
    invoke: Invoke, evaluation: FakeEvaluation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_config: EvaluationConfig, **_: bool) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(evaluation, "dry_run", interrupt)
    result = invoke("evaluate", "--dry-run", "--quiet")
    assert (result.exit_code, result.stderr.split()) == (130, ["interrupted"])


SLEEPER = """
import signal, sys, time, types
# a shell that starts the tests in the background has these ignored
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_IGN if "nohup" in sys.argv else signal.SIG_DFL)
# the evaluation and what imports torch besides
selection = types.ModuleType("fewshot_i2v.evaluation.row_execution")
selection.EpisodeSelection = lambda *_: None
sys.modules["fewshot_i2v.evaluation.row_execution"] = selection
fake = types.ModuleType("fewshot_i2v.evaluation.evaluate")
def run(config, **_asked):
    try:
        print("running", flush=True)
        time.sleep(120)
    finally:
        print("closed", flush=True)
fake.run = run
sys.modules["fewshot_i2v.evaluation.evaluate"] = fake
from fewshot_i2v.cli import main
main(["evaluate", "-o", "there"])
"""


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signals_close_files_and_give_their_status(number: signal.Signals, status: int) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        start = time.perf_counter()
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out) == (status, "closed\n")
    assert "the same command goes on from there" in err
    assert "Traceback" not in err
    assert time.perf_counter() - start < 60


def test_a_hang_up_that_is_ignored_stays_ignored() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SLEEPER, "nohup"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGHUP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out) == (143, "closed\n")


def test_starts_are_given_as_flags(
    invoke: Invoke, evaluation: FakeEvaluation, tmp_path: Path
) -> None:
    (tmp_path / "s").mkdir()
    plain = {"adapter": {"name": "aim"}, "tensors": {"sha256": "d"}}
    (tmp_path / "s" / "adapter.json").write_text(json.dumps(plain))
    begin = ("--start", "fresh", "--start", str(tmp_path / "s"))
    result = invoke("evaluate", "--adapter", "aim", *begin, "--allow-seen")
    assert result.exit_code == 0, result.output
    assert evaluation.config is not None
    assert evaluation.config.start == ("fresh", str(tmp_path / "s"))
    assert evaluation.config.allow_seen
    starts = dict.fromkeys(row.start for row in expand_rows(evaluation.config))
    assert list(starts) == list(evaluation.config.start)
    other = invoke("evaluate", "--adapter", "st-adapter", "--start", str(tmp_path / "s"))
    assert other.exit_code == 2
    assert "is for 'aim'" in other.stderr


def test_the_limit_of_the_cache_is_a_size_with_a_unit(
    evaluation: FakeEvaluation, invoke: Invoke
) -> None:
    assert invoke("evaluate", "--cache-limit", "20GB").exit_code == 0
    assert evaluation.config is not None
    assert evaluation.config.cache_limit == "20GB"
    result = invoke("evaluate", "--cache-limit", "20")
    assert result.exit_code == 2
    assert "--cache-limit: got '20'; expected a size with a unit, such as 20GB" in result.stderr
