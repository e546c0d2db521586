"""Towers and adapters filled with the tensors of a golden file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from fewshot_i2v.models.adapters.base.adapter import Adapter
from fewshot_i2v.models.encoders.block import FrozenBlock, LayerNorm
from fewshot_i2v.models.encoders.tower import Tower
from tests.models.tiny_adapters import make_adapter, perturb

_FOLD = 1.702


@dataclass(frozen=True)
class Golden:
    """One golden file: header and tensors."""

    path: Path
    header: dict[str, str]
    tensors: dict[str, Tensor]

    @classmethod
    def read(cls, path: Path) -> Golden:
        with safe_open(path, "pt") as file:
            header = dict(file.metadata())
            return cls(path, header, {name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118

    def __getitem__(self, name: str) -> Tensor:
        return self.tensors[name]

    @property
    def method(self) -> str:
        return self.header["method"]

    def named(self, start: str) -> dict[str, Tensor]:
        """Tensors whose names begin with `start`, without it."""
        return {n.removeprefix(start): t for n, t in self.tensors.items() if n.startswith(start)}

    def json(self, name: str) -> Any:  # noqa: ANN401 - lists and numbers
        return json.loads(self.header[name])


def golden_tower(golden: Golden) -> Tower:
    """The frozen trunk of a golden file; QuickGELU is folded as `FrozenBlock` expects it."""
    heads = golden.json("heads")
    return Tower(
        image_size=golden.json("image"),
        patch_weight=golden["conv1.weight"],
        class_token=golden["class_embedding"],
        positions=golden["positional_embedding"],
        norm_pre=_norm(golden.named("ln_pre.")),
        blocks=tuple(
            _block(golden.named(f"transformer.resblocks.{i}."), heads)
            for i in range(golden.json("layers"))
        ),
        norm_post=_norm(golden.named("ln_post.")),
        pool="tok",
        projection=None,
        mean=torch.zeros(3),
        std=torch.ones(3),
    )


def _norm(tensors: dict[str, Tensor]) -> LayerNorm:
    return LayerNorm(tensors["weight"], tensors["bias"])


def _block(t: dict[str, Tensor], heads: int) -> FrozenBlock:
    return FrozenBlock(
        heads=heads,
        norm_1=LayerNorm(t["ln_1.weight"], t["ln_1.bias"]),
        qkv_weight=t["attn.in_proj_weight"],
        qkv_bias=t["attn.in_proj_bias"],
        out_weight=t["attn.out_proj.weight"],
        out_bias=t["attn.out_proj.bias"],
        norm_2=LayerNorm(t["ln_2.weight"], t["ln_2.bias"]),
        fc_weight=t["mlp.c_fc.weight"] * _FOLD,
        fc_bias=t["mlp.c_fc.bias"] * _FOLD,
        proj_weight=t["mlp.c_proj.weight"] / _FOLD,
        proj_bias=t["mlp.c_proj.bias"],
        activation="silu",
    )


def _options(golden: Golden) -> tuple[str, dict[str, Any]]:
    """Our name of the method and the options that make it this case."""
    width = golden.json("width")
    match golden.method:
        case "aim":
            options = {
                "temporal_adapters": golden.json("num_tadapter"),
                "scale": golden.json("scale"),
                "ratio": golden.json("bottleneck") / width,
            }
            return "aim", options
        case "adaptformer":
            return "adaptformer", {
                "hidden": golden.json("bottleneck"),
                "scale": golden.json("scale"),
            }
        case "st_adapter":
            sites = "both" if "pre_attn" in golden.json("sites") else "pre_mlp"
            return "st-adapter", {"sites": sites, "width": golden.json("bottleneck")}
        case "zeroi2v":
            options = {
                "scale": golden.json("scale"),
                "ratio": golden.json("bottleneck") / width,
                "offsets": golden.json("head_offsets"),
                "out_adapter": golden.json("num_tadapter") == 2,
            }
            return "zeroi2v", options
    return "frozen", {}


def golden_adapter(golden: Golden, tower: Tower, *, episodes: int = 1, slot: int = 0) -> Adapter:
    """The adapter of a golden file: its weights in one episode, random ones in the others."""
    name, options = _options(golden)
    seeds = range(episodes)
    adapter = make_adapter(name, tower, frames=golden.json("T"), seeds=seeds, **options)
    perturb(adapter, seeds, std=0.05)
    with torch.no_grad():
        for theirs, tensor in golden_parameters(golden, adapter).items():
            tensor[slot] = ours(theirs, golden[theirs])
    return adapter


def golden_parameters(golden: Golden, adapter: Adapter) -> dict[str, nn.Parameter]:
    """Our parameter for each of the file's trained tensors."""
    names = [n for n in golden.tensors if n.startswith("adapter.")]
    if "temporal_embedding" in golden.tensors:
        names += ["temporal_embedding", "ln_post.weight", "ln_post.bias"]
    return {name: adapter.get_parameter(_our_name(name)) for name in names}


def _our_name(theirs: str) -> str:
    if theirs == "temporal_embedding":
        return "temporal_embedding.table"
    if theirs.startswith("ln_post."):
        return theirs
    _, block, site, layer, kind = theirs.split(".")
    # `temporal` is a property every adapter declares, so AIM's site has a longer name.
    site = "temporal_out" if site == "temporal" else site
    return f"{site}.{block}.{layer}.{kind}"


def ours(theirs: str, tensor: Tensor) -> Tensor:
    """A tensor of the file, or a gradient, in our layout, without the episode axis."""
    if theirs.endswith(".conv.weight"):
        return tensor.flatten(1)
    if theirs.startswith("adapter.") and theirs.endswith(".weight"):
        return tensor.T
    return tensor[0] if theirs == "temporal_embedding" else tensor
