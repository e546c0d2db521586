"""A tiny random open_clip model with both towers, for heads that read class names."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional

from tests.tiny import tiny_architecture

CONTEXT_LENGTH = 20
_TEXT = {
    "context_length": CONTEXT_LENGTH,
    "vocab_size": 49408,
    "width": 8,
    "heads": 2,
    "layers": 1,
}


class TinyClip:
    """The model and its files.

    Args:
        folder: that gets them.
    """

    def __init__(self, folder: Path) -> None:
        path = tiny_architecture(folder)
        config = json.loads(path.read_text(encoding="utf-8")) | {"text_cfg": _TEXT}
        self.architecture, self.weights = folder / "clip.json", folder / "clip.safetensors"
        self.architecture.write_text(json.dumps(config), encoding="utf-8")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.model = open_clip.CLIP(**config).eval()
        save_file({k: v.contiguous() for k, v in self.model.state_dict().items()}, self.weights)

    @property
    def keys(self) -> dict[str, Any]:
        """The section `encoder` of a configuration."""
        return {
            "name": "clip",
            "architecture": str(self.architecture),
            "pretrained": str(self.weights),
            "mean": 0.5,
            "std": 0.5,
        }

    @torch.no_grad()
    def embed(self, prompts: Sequence[str]) -> Tensor:
        """The mean of the unit embeddings of prompts, by open_clip's own functions."""
        tokens = open_clip.SimpleTokenizer(context_length=CONTEXT_LENGTH)(list(prompts))
        return functional.normalize(self.model.encode_text(tokens, normalize=True).mean(0), dim=-1)
