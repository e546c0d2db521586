"""Raw pixels as the encoder, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fewshot_i2v.models.encoders.loading import load_encoder
from tests.cli.conftest import Invoke

QUICK = ("--encoder", "pixels", "--way", "3", "--query", "2", "--shot", "1", "--json")


def test_the_motion_map_of_pixels_needs_no_encoder(tmp_path: Path, invoke: Invoke) -> None:
    head = ("--head", "prototype:pooling=ordered,tokens=motion", "--adapter", "frozen")
    size = ("--image-size", "64", "--precision", "bf16", "--episodes", "2")
    output = ("--output", str(tmp_path / "out"))
    result = invoke("evaluate", "quickstart", *QUICK, *head, *size, *output)
    assert result.exit_code == 0, result.stderr
    (row,) = json.loads(result.stdout)["rows"]
    assert (row["adapter"], row["episodes"], row["parameters"]) == ("frozen", 2, 0)
    (run,) = (tmp_path / "out").rglob("run.json")
    header = json.loads(run.read_text("utf-8"))
    assert header["identity"]["encoder"]["digest"] == load_encoder("pixels").digest
    assert header["encoder"] == {"name": "pixels", "pretrained": "none", "architecture": None}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--adapter", "aim"), "it is the raw pixels, without any network"),
        (("--adapter", "frozen", "--pretrained", "random"), "it has no architecture, no weights"),
        (
            ("--adapter", "frozen", "--head", "nearest:tokens=grid8"),
            "7 x 7 patches at this image size",
        ),
        (("--adapter", "frozen", "--image-size", "100"), "the nearest that is: 96"),
        (("--adapter", "frozen", "--head", "zero-shot"), "no text tower"),
    ],
)
def test_what_pixels_cannot_do_is_said_before_a_clip_is_made(
    flags: tuple[str, ...], said: str, tmp_path: Path, invoke: Invoke
) -> None:
    output = tmp_path / "out"
    result = invoke("evaluate", "quickstart", *QUICK, *flags, "--output", str(output))
    assert result.exit_code != 0
    assert said in " ".join(result.stderr.split())
    assert not output.exists()
