"""`fewshot-i2v train`: flags become configuration keys, a start becomes a curve or JSON."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

import fewshot_i2v.training
from fewshot_i2v.cli._flags import KeyFlag
from fewshot_i2v.cli.train import command
from fewshot_i2v.config.keys import config_keys
from fewshot_i2v.config.training import TrainingConfig
from fewshot_i2v.config.training_recipes import take_recipe
from fewshot_i2v.errors import TuningError
from tests.cli.conftest import Invoke
from tests.training.training_samples import settings, training_folder

# A command remembers its help option, with the names of the first context that asks for it.
PARAMS = command.get_params(click.Context(command, help_option_names=["-h", "--help"]))
FLAGS = [param for param in PARAMS if isinstance(param, KeyFlag)]


class FakeTraining(ModuleType):
    """What `fewshot_i2v.training.train` offers; remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__("fewshot_i2v.training.train")
        self.config: TrainingConfig | None = None
        self.finish: bool | None = None
        self.raises: BaseException | None = None

    def train(
        self,
        config: TrainingConfig,
        *,
        progress: bool,
        log: Callable[[str], object] | None,
        finish: bool,
    ) -> None:
        assert progress == (log is not None)  # --quiet turns both off
        self.config, self.finish = config, finish
        if log is not None:
            log("about 3.0 min")
        raise self.raises or TuningError("stopped here")

    def dry_run(self, config: TrainingConfig) -> dict[str, Any]:
        self.config = config
        cost = {"clips": 3, "validation_clips": 2, "device": "cpu", "parameters": 1000}
        cost |= {"clips_to_generate": 124, "generation_seconds": 31.0}
        cost |= {"clips_per_step": 5, "seconds_per_step": 0.25, "seconds": 225.0, "memory_mb": 900}
        classes = {"trained": ["a", "b"], "watched": ["c"]}
        used = take_recipe(config)
        return {
            "config": used.config.model_dump(mode="json"),
            "recipe": used.to_dict(),
            "notes": [],
            "classes": classes,
            "cost": cost,
        }


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeTraining:
    module = FakeTraining()
    monkeypatch.setitem(sys.modules, "fewshot_i2v.training.train", module)
    monkeypatch.setattr(fewshot_i2v.training, "train", module, raising=False)
    return module


def test_every_flag_sets_an_existing_key_and_all_but_a_few_keys_have_one() -> None:
    flagged = {flag.key for flag in FLAGS}
    assert len(flagged) == len(FLAGS)
    keys = config_keys(TrainingConfig)
    assert flagged <= keys.keys()
    rare = {
        "classifier",
        "video.backend",
        "augment.crop_scale",
        "validation.way",
        "validation.query",
        "lr_by_width",
    }
    assert keys.keys() - flagged == {"name", "source"} | rare


def test_flags_reach_the_configuration(fake: FakeTraining, invoke: Invoke) -> None:
    result = invoke(
        "train", "motions", "--adapter", "aim", "--objective", "both", "--val-every", "20",
        "--val-subset", "off", "--clip-norm", "off", "--no-temporal", "--inner-lr", "0.5",
        "--checkpointing", "--set", "validation.query=3", "-o", "out",
    )  # fmt: skip
    assert result.exit_code == 1
    assert "error: stopped here" in result.stderr
    assert "about 3.0 min" in result.stderr
    config = fake.config
    assert config is not None
    assert (config.name, config.adapter.label, config.objective) == ("motions", "aim", "both")
    assert (config.validation.every, config.validation.query) == (20, 3)
    assert config.validation.subset is None
    assert config.clip_norm is None
    assert config.checkpointing
    assert not config.augment.temporal
    assert config.augment.colour > 0
    assert config.inner.lr == 0.5
    assert config.output_folder == Path("out")


def test_without_a_config_it_is_motions_and_quiet_says_nothing(
    fake: FakeTraining, invoke: Invoke
) -> None:
    result = invoke("train", "--quiet")
    assert fake.config is not None
    assert fake.config.output_folder == Path("starts/motions")
    assert fake.finish is False
    invoke("train", "--finish")
    assert fake.finish is True
    assert result.stderr == "error: stopped here\n"


def test_it_first_says_which_settings_are_not_the_defaults(
    fake: FakeTraining, invoke: Invoke
) -> None:
    lines = invoke("train", "--dry-run", "--seed", "3").stderr.splitlines()
    assert lines[0] == "split motions, encoder demo; settings that are not the defaults:"
    head = " ".join(" ".join(lines).split())
    assert re.search(r" motions: .*video\.crop 1\.0.* steps 900.* lr 0\.004", head)
    assert " flags: seed 3" in head
    assert "seed 3" not in invoke("train", "--dry-run", "--seed", "3", "--quiet").stderr


def test_a_split_of_other_clips_takes_nothing_from_motions(
    fake: FakeTraining, invoke: Invoke
) -> None:
    result = invoke("train", "--split", "mine.yaml", "--adapter", "lora", "--dry-run")
    assert result.exit_code == 0
    assert fake.config is not None
    assert fake.config.output_folder == Path("starts/mine")
    assert "motions" not in result.output
    assert result.stderr.startswith("split mine.yaml, encoder demo; settings that are not the")
    assert "  flags: adapter lora\n" in result.stderr
    assert "steps       300 of" in result.stdout
    assert "rate        0.001" in result.stdout


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--subset", "novel"], "the novel classes are for evaluation"),
        (["--val-subset", "novel"], "would make its figures too good"),
        (["--adapter", "frozen"], "nothing to train"),
        (["--val-subset", "val", "--val-class", "grows"], "give `classes` or `subset`, not both"),
        (["train/motion"], "did you mean 'train/motions'"),
    ],
)
def test_wrong_use_ends_with_status_2(
    fake: FakeTraining, invoke: Invoke, flags: list[str], message: str
) -> None:
    result = invoke("train", *flags)
    assert result.exit_code == 2
    assert message in result.stderr
    assert fake.config is None


def test_classes_are_held_out_one_flag_each(fake: FakeTraining, invoke: Invoke) -> None:
    invoke("train", "--val-class", "grows", "--val-class", "shrinks")
    assert fake.config is not None
    assert fake.config.validation.classes == ("grows", "shrinks")


def test_an_interrupted_training_says_how_to_go_on(fake: FakeTraining, invoke: Invoke) -> None:
    fake.raises = KeyboardInterrupt()
    result = invoke("train", "-o", "out")
    assert result.exit_code == 130
    assert "the last saved state is in out; the same command goes on from there" in result.stderr


def test_a_dry_run_trains_nothing(fake: FakeTraining, invoke: Invoke) -> None:
    result = invoke("train", "--dry-run", "--json", "--seed", "3")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["config"]["seed"] == 3
    text = invoke("train", "--dry-run", "--seed", "3")
    facts = dict(re.split(r"  +", line) for line in text.stdout.splitlines()[:11])
    assert facts["classes"] == "2 to train on, 1 to validate"
    assert (facts["all steps"], facts["memory"]) == ("4 min", "900 MiB")
    assert facts["generate"] == "124 clips, about 31 s"
    assert "An estimate for cpu" in text.stdout
    assert text.stderr.splitlines()[-1] == "next: fewshot-i2v train --seed 3"


def test_a_dry_run_shows_what_the_recipe_gave(fake: FakeTraining, invoke: Invoke) -> None:
    result = invoke("train", "--adapter", "zeroi2v", "--set", "validation.every=30", "--dry-run")
    text = " ".join(result.stdout.split())
    assert "steps 300 of 5 clips" in text
    assert "rate 0.0005" in text
    assert "Recipe auto of zeroi2v (configs/recipes/zeroi2v.yaml):" in text
    assert "lr 0.0005, steps 300" in text
    assert "Set otherwise, and so not taken: validation.every 100." in text
    assert max(map(len, result.stdout.splitlines())) <= 80
    without = invoke("train", "--adapter", "zeroi2v", "--recipe", "none", "--dry-run").stdout
    assert "rate        0.004" in without
    assert "Recipe none: keys that are not set have their defaults." in without


def test_a_real_training_prints_its_curve_and_then_that_it_is_done(
    tmp_path: Path, invoke: Invoke
) -> None:
    folder = training_folder(tmp_path)
    config = tmp_path / "small.yaml"
    config.write_text(json.dumps(settings(folder, tmp_path / "start")), encoding="utf-8")
    first = invoke("train", str(config))
    assert first.exit_code == 0, first.output
    lines = first.stdout.splitlines()
    assert lines[0].split() == ["step", "loss", "validation"]
    assert [line.split()[0] for line in lines[1:4]] == ["0", "3", "6"]
    assert sum("selected" in line for line in lines) == 1
    assert "clips/s" in first.stderr
    assert "6 steps of 18 clips" in first.stderr
    command = shlex.split(first.stderr.splitlines()[-1].removeprefix("next: "))
    assert command[:3] == ["fewshot-i2v", "evaluate", "--split"]
    assert command[-2:] == ["--start", str(tmp_path / "start")]
    assert "--set" not in command
    assert command[command.index("--way") :][:2] == ["--way", "2"]
    few = ["--query", "1", "--episodes", "2", "--quiet"]
    planned = invoke(*command[1:], *few, "--dry-run", "--cache", str(tmp_path / "cache"))
    assert planned.exit_code == 0, planned.output
    assert "read unlike its start" not in planned.output
    again = invoke("train", str(config), "--json")
    found = json.loads(again.stdout)
    assert found["digest"] in first.stdout
    assert found["clips_per_second"] is None
    assert "nothing was done now" in again.stderr


def test_a_start_a_training_from_it_and_its_evaluation_read_clips_alike(
    tmp_path: Path, invoke: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = training_folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    world = settings(folder, tmp_path / "world", video={"frames": 4}, validation={"subset": "off"})
    world |= {"subset": "val", "way": 2, "steps": 1}
    (tmp_path / "world.yaml").write_text(json.dumps(world), encoding="utf-8")
    assert invoke("train", "world.yaml").exit_code == 0
    own = (
        "--split few.yaml --adapter temporal-embedding --start world --encoder tiny "
        "--architecture tiny.json --pretrained random --mean 0.5 --std 0.5 --frames 4 "
        "--precision fp32 --val-subset off --steps 1 --batch 1 --device cpu --cache cache "
        "--workers 1 --output own"
    )
    trained = invoke("train", *own.split())
    assert trained.exit_code == 0, trained.output
    assert "read with other settings" not in trained.stderr
    assert "flags: " in trained.stderr
    command = shlex.split(trained.stderr.splitlines()[-1].removeprefix("next: "))
    assert command[command.index("--mean") :][:4] == ["--mean", "0.5", "--std", "0.5"]
    few = [
        "--query",
        "1",
        "--episodes",
        "1",
        "--steps",
        "1",
        "--cache",
        "cache",
        "--output",
        "runs",
        "--device",
        "cpu",
    ]
    done = invoke(*command[1:], *few, "--notes")
    assert done.exit_code == 0, done.output
    assert "temporal-embedding" in done.stdout
    assert "read unlike its start" not in done.output


def test_without_classes_that_were_not_seen_another_split_is_asked_for(
    tmp_path: Path, invoke: Invoke
) -> None:
    folder = training_folder(tmp_path)
    text = (folder / "few.yaml").read_text()
    (folder / "few.yaml").write_text(text.replace("  novel: [brightens, darkens]\n", ""))
    config = tmp_path / "small.yaml"
    config.write_text(json.dumps(settings(folder, tmp_path / "start", steps=1)), encoding="utf-8")
    done = invoke("train", str(config))
    assert done.exit_code == 0, done.output
    assert "note: split 'few-motions' has no other classes, to evaluate on" in done.stderr
    assert "next: fewshot-i2v evaluate --split SPLIT --encoder tiny" in done.stderr
