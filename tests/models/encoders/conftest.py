"""Tiny visual towers, and checkpoints of them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

VISION: dict[str, Any] = {
    "layers": 2,
    "width": 32,
    "head_width": 8,
    "patch_size": 8,
    "image_size": 32,
    "mlp_ratio": 2.0,
}


def draw(shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Standard normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def random() -> Callable[..., Tensor]:
    """Standard normal numbers: `random((2, 3), seed)`."""
    return draw


@pytest.fixture
def make_visual() -> Callable[..., Any]:
    """A tiny open_clip visual tower with no weight at a special value."""

    def make(*, quick_gelu: bool = False, seed: int = 0, **changes: object) -> nn.Module:
        from open_clip.model import CLIPVisionCfg, _build_vision_tower

        visual: nn.Module = _build_vision_tower(
            24, CLIPVisionCfg(**(VISION | changes)), quick_gelu
        ).eval()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in visual.parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                centre = 0.7 if parameter.ndim == 1 else 0.0
                parameter.copy_(centre + 0.2 * noise)
        return visual

    return make


@pytest.fixture
def configuration(tmp_path: Path) -> Callable[..., Path]:
    """Writes a tiny model configuration: `configuration(quick_gelu=True, width=16)`."""

    def write(name: str = "tiny", *, top: dict[str, Any] | None = None, **changes: object) -> Path:
        whole = {"embed_dim": 24, "vision_cfg": copy.deepcopy(VISION) | changes, **(top or {})}
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(whole), encoding="utf-8")
        return path

    return write
