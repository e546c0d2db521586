"""Encoders can be listed without importing what could load them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import open_clip

from fewshot_i2v.models.encoders import architectures, catalog
from fewshot_i2v.models.encoders.catalog import list_encoders
from fewshot_i2v.models.encoders.open_clip_conversion import _unsupported_reason

GUIDE = Path(__file__).resolve().parents[3] / "fewshot_i2v" / "models" / "README.md"


def test_the_list_is_the_one_of_open_clip() -> None:
    rows = list_encoders()
    assert [
        row.name for row in rows if row.name not in ("demo", "pixels")
    ] == open_clip.list_models()
    kinds = {row.name: row.kind for row in rows}
    assert (kinds["RN50"], kinds["EVA02-B-16"], kinds["ViT-B-16"]) == ("resnet", "timm", "vit")


def test_the_sizes_and_adaptability_are_those_of_the_models() -> None:
    rows = {row.name: row for row in list_encoders()}
    for name in (
        "RN50",
        "ViT-S-32",
        "coca_ViT-B-32",
        "ViT-H-14-CLIPA",
        "ViT-M-16-alt",
        "ViT-L-14-336",
    ):
        row = rows[name]
        visual: Any = architectures.build_visual_tower(
            architectures.open_clip_architecture(name), in_memory=False
        )
        assert row.lacks == _unsupported_reason(visual)
        if row.width is None:
            continue
        assert row.width == visual.conv1.out_channels
        assert row.layers == len(visual.transformer.resblocks)
        assert (row.image_size, row.patch) == (visual.image_size[0], visual.patch_size[0])


def test_it_is_said_how_many_take_adapters_and_what_the_others_lack() -> None:
    rows = list_encoders()
    text = GUIDE.read_text(encoding="utf-8")
    assert f"{sum(row.adaptable for row in rows)} of {len(rows)} names" in text
    lacking = {row.lacks for row in rows if not row.adaptable}
    assert lacking == {
        catalog.RESNET_REASON,
        catalog.TIMM_REASON,
        catalog.ATTENTION_POOL_REASON,
        catalog.PIXELS_REASON,
    }
    assert next(row for row in rows if row.name == "ViT-B-16-SigLIP2").lacks == catalog.TIMM_REASON


def test_listing_imports_neither_torch_nor_open_clip() -> None:
    program = (
        "import sys; from fewshot_i2v.models.encoders.catalog import list_encoders; "
        "assert len(list_encoders()) > 50; "
        "print(sorted({'torch', 'open_clip', 'safetensors'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
