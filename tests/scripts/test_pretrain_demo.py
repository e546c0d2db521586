"""The program that trains the `demo` encoder, and the weights it left in the package."""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors import safe_open
from safetensors.torch import load_file

from fewshot_i2v.data.synthetic import generate
from fewshot_i2v.models.encoders.catalog import DEMO_CONFIG, DEMO_WEIGHTS

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
TINY = ["--steps", "1", "--batch", "4", "--stills", "8", "--held-out", "12", "--threads", "1"]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The program as a module."""
    monkeypatch.syspath_prepend(str(SCRIPTS))
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)  # the other tests' setting
    return importlib.import_module("pretrain_demo_clip")


def run(script: ModuleType, out: Path, *more: str) -> str:
    result = CliRunner().invoke(script.main, ["--out", str(out), *TINY, *more])
    assert result.exit_code == 0, result.output
    return result.output


def test_a_short_run_writes_a_whole_model(script: ModuleType, tmp_path: Path) -> None:
    state = torch.random.get_rng_state()
    output = run(script, tmp_path / "out")
    assert torch.equal(state, torch.random.get_rng_state())
    assert "step 1/1" in output
    files = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert files == ["demo.json", "demo.safetensors", "training_log.json"]
    config = (tmp_path / "out" / "demo.json").read_bytes()
    with safe_open(tmp_path / "out" / "demo.safetensors", "pt") as weights:
        facts = weights.metadata()
        assert {weights.get_tensor(name).dtype for name in weights.keys()} == {torch.float16}  # noqa: SIM118
    assert facts["steps"] == "1"
    assert facts["config_sha256"] == hashlib.sha256(config).hexdigest()
    log = json.loads((tmp_path / "out" / "training_log.json").read_text())
    assert log["settings"]["stills"] == 8
    assert log["loss"][-1][0] == 1
    # the file was read back, with a place for every tensor
    assert set(log["zero_shot_from_file"]) == set(script.VOCABULARY)


@pytest.mark.slow
def test_the_same_seed_gives_the_same_weights(script: ModuleType, tmp_path: Path) -> None:
    for name, seed in (("a", "0"), ("b", "0"), ("c", "1")):
        run(script, tmp_path / name, "--seed", seed, "--steps", "3")
    # not the bytes: the order of a safetensors file's metadata is left to chance
    a, b, c = (load_file(tmp_path / n / "demo.safetensors") for n in "abc")
    assert all(torch.equal(value, b[name]) for name, value in a.items())
    assert not torch.equal(a["visual.proj"], c["visual.proj"])


def test_captions_stay_true_when_the_frame_is_turned(script: ModuleType) -> None:
    material = sys.modules["_demo_material"]
    marked = np.zeros((1, 9, 9, 3), np.uint8)
    marked[0, 1, 4] = 255  # at the top
    for kind in range(8):
        y, x = np.argwhere(script.turn(marked, kind)[0, :, :, 0])[0]
        there = material.POSITIONS[3 * (y // 3) + x // 3]
        assert material.turned_position("top", kind) == there
    words = material.render_still("shapes", "striped-star", 0).objects
    rng = np.random.default_rng(0)
    said = {script.caption(words, 0, rng) for _ in range(200)}
    assert len(said) > 100
    allowed = {w for value in vars(words[0]).values() for w in value.split()}
    allowed |= {"a", "an", "at", "the", "on", "of", "background", "object"}
    allowed |= {"photo", "picture", "image", "video"}
    assert {w for text in said for w in text.split()} == allowed


def test_a_still_is_a_frame_of_its_clip_and_its_words_are_true(script: ModuleType) -> None:
    material = sys.modules[script.render_stills.__module__]
    for number in range(40):
        shown = material.render_still("motions", "blinks-slowly", number, seed=5)
        clip = generate.render_clip("motions", "blinks-slowly", number, seed=5)
        assert np.array_equal(shown.frame, clip[shown.index])
        for words in shown.objects:
            for kind, known in material.VOCABULARY.items():
                assert getattr(words, kind) in known
    star = material.render_still("shapes", "striped-star", 0).objects[0]
    assert (star.shape, star.texture) == ("star", "striped")


def test_the_place_in_words_is_where_the_object_is(script: ModuleType) -> None:
    material = sys.modules[script.render_stills.__module__]
    right = 0
    for number in range(60):
        clip = generate.render_clip("shapes", "plain-square", number)
        shown = material.render_still("shapes", "plain-square", number)
        # a picture without the object: the middle value of each pixel over time
        change = np.abs(shown.frame.astype(float) - np.median(clip, axis=0)).sum(-1)
        if change.max() < 100:  # it does not move away
            continue
        y, x = (int(v.mean() * 3 / 64) for v in np.nonzero(change > 60))
        position = material.POSITIONS[3 * y + x]
        right += position == shown.objects[0].position
    assert right >= 30


def test_words_give_the_tokenizers_own_ids(script: ModuleType) -> None:
    tokenizer = script.open_clip.SimpleTokenizer(context_length=32)
    text = "a photo of a small striped star at the top left on a dark blue background"
    assert script.Words().ids(text) == tokenizer([text])[0].tolist()


def test_the_shipped_weights_load_strictly_and_know_shapes(script: ModuleType) -> None:
    assert DEMO_WEIGHTS.stat().st_size <= 15_000_000
    assert json.loads(DEMO_CONFIG.read_text()) == script.CONFIG
    with safe_open(DEMO_WEIGHTS, "pt") as weights:
        facts = weights.metadata()
    assert facts["config_sha256"] == hashlib.sha256(DEMO_CONFIG.read_bytes()).hexdigest()
    assert facts["generator_version"] == str(generate.VERSION)
    model = script.reload(DEMO_WEIGHTS)
    # frames of clips that neither the training nor its test has seen
    seen = script.zero_shot(model, script.render_stills(300, 9_000_000, 0), script.Words())
    assert seen["shape"]["accuracy"] > 0.7
    assert seen["colour"]["accuracy"] > 0.7


def test_the_training_log_says_that_half_precision_costs_nothing(script: ModuleType) -> None:
    log = json.loads((DEMO_CONFIG.parent / "training_log.json").read_text())
    for kind, row in log["zero_shot_from_file"].items():
        assert row["accuracy"] == pytest.approx(
            log["zero_shot_as_trained"][kind]["accuracy"], abs=0.005
        )
        assert row["accuracy"] > row["commonest"]
    assert log["loss"][-1][1] < 0.6 * log["loss"][0][1]
