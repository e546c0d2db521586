"""`fewshot-i2v init`: files to edit that are valid as they are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from fewshot_i2v.cli.init import _KINDS
from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.config.keys import config_keys
from fewshot_i2v.config.loading import load_run_config, load_train_config
from fewshot_i2v.config.training import TrainingConfig
from fewshot_i2v.config.training_recipes import take_recipe
from fewshot_i2v.data.splits.split_file import load_split
from fewshot_i2v.utils.yaml import load_yaml
from tests.cli.conftest import FakeEvaluation, Invoke


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def _load(kind: str, path: Path) -> EvaluationConfig | TrainingConfig:
    return load_train_config(path) if kind == "train" else load_run_config(path)


@pytest.mark.parametrize("kind", _KINDS)
def test_the_file_loads_and_the_next_command_runs(
    invoke: Invoke, evaluation: FakeEvaluation, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    done = invoke("init", f"my-{kind}.yaml")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"my-{kind}.yaml: a file for {kind} (by its name; --kind ")
    program, *arguments = shlex.split(done.stdout.splitlines()[-1])
    assert program == "fewshot-i2v"
    cost = {"device": "cpu", "clips": 1, "validation_clips": 1, "parameters": 1, "memory_mb": 1}
    cost |= {"clips_per_step": 1, "seconds_per_step": 0.1, "seconds": 1.0}
    cost |= {"clips_to_generate": 0, "generation_seconds": 0.0}
    monkeypatch.setattr(
        "fewshot_i2v.training.train.dry_run",
        lambda config: {
            "config": config.model_dump(mode="json"),
            "recipe": take_recipe(config).to_dict(),
            "notes": [],
            "classes": {"trained": [], "watched": []},
            "cost": cost,
        },
    )
    following = invoke(*arguments)
    assert following.exit_code == 0, following.output
    assert following.stdout
    if kind in ("evaluate", "sweep"):
        assert evaluation.config == load_run_config(Path(f"my-{kind}.yaml"))


@pytest.mark.parametrize("kind", [kind for kind in _KINDS if kind != "split"])
def test_every_unset_key_can_be_set_to_what_stands_beside_it(invoke: Invoke, kind: str) -> None:
    invoke("init", "plain.yaml", "--kind", kind)
    text = Path("plain.yaml").read_text()
    unset = re.findall(r"^ *# [a-z_]+: .+$", text, re.M)
    assert len(unset) >= 5
    for line in unset:
        Path("changed.yaml").write_text(text.replace(line, line.replace("# ", "", 1)))
        changed = _load(kind, Path("changed.yaml"))
        assert changed.model_fields_set


@pytest.mark.parametrize("kind", [kind for kind in _KINDS if kind != "split"])
def test_comments_are_the_descriptions_of_the_fields(invoke: Invoke, kind: str) -> None:
    invoke("init", "plain.yaml", "--kind", kind)
    text = Path("plain.yaml").read_text()
    words = " ".join(text.replace("#", " ").split())
    keys = config_keys(TrainingConfig if kind == "train" else EvaluationConfig)
    values = load_yaml(Path("plain.yaml"))
    assert isinstance(values, dict)
    for name, value in values.items():
        for leaf in value if isinstance(value, dict) else [""]:
            key = keys[f"{name}.{leaf}".rstrip(".")]
            assert key.description in words
    assert max(map(len, text.splitlines())) <= 100


def test_nothing_is_replaced_without_force(invoke: Invoke) -> None:
    Path("sweep.yaml").write_text("mine\n")
    done = invoke("init", "sweep.yaml")
    assert done.exit_code == 2
    assert "sweep.yaml: is already there; give another name, or --force" in done.stderr
    assert Path("sweep.yaml").read_text() == "mine\n"
    assert invoke("init", "sweep.yaml", "--force").exit_code == 0
    assert load_run_config(Path("sweep.yaml")).shot == (1, 5)


def test_the_name_decides_unless_a_kind_is_chosen(invoke: Invoke) -> None:
    for name, options, kind in (
        ("mine.yaml", (), "evaluate"),
        ("Big-Sweep.yml", (), "sweep"),
        ("sweep-2.yaml", ("--kind", "train"), "train"),
    ):
        done = invoke("init", name, *options)
        assert done.stdout.startswith(f"{name}: a file for {kind}")
    assert load_train_config("sweep-2.yaml").steps == 300
    wrong = invoke("init", "sweep.txt")
    assert wrong.exit_code == 2
    assert "sweep.txt: got the ending '.txt'; expected .yaml" in wrong.stderr


def test_the_example_split_explains_its_keys_and_lists_clips(invoke: Invoke) -> None:
    invoke("init", "first.yaml", "--kind", "split")
    split = load_split("first.yaml")
    assert [len(clips) for clips in split.subsets["novel"].values()] == [6] * 5
    text = Path("first.yaml").read_text()
    assert text.startswith("# Made by `fewshot-i2v init`. Change it as you like")
    for key in ("name", "root", "find", "group", "subsets"):
        assert re.search(rf"^#\s+{key} ", text, re.M), key


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in _KINDS if kind != "split"])
def test_the_real_dry_run_finds_nothing_wrong(invoke: Invoke, kind: str) -> None:
    invoke("init", "plain.yaml", "--kind", kind)
    done = invoke("train" if kind == "train" else "evaluate", "plain.yaml", "--dry-run", "--json")
    assert done.exit_code == 0, done.output


@pytest.mark.parametrize("kind", ["evaluate", "sweep", "train"])
def test_the_file_names_another_file_for_the_split_and_has_the_keys_of_the_encoder(
    invoke: Invoke, kind: str
) -> None:
    invoke("init", "mine.yaml", "--kind", kind)
    text = Path("mine.yaml").read_text()
    assert "episodes new mine.yaml" not in text
    for key in ("name", "pretrained", "architecture", "image_size", "mean", "std"):
        assert re.search(rf"^  (# )?{key}: ", text, re.MULTILINE), key
