"""Configuration files to edit: keys with their descriptions as comments, valid as they are."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from fewshot_i2v.config.base import CommonConfig
from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.config.keys import config_keys
from fewshot_i2v.config.training import TrainingConfig

_WIDTH = 98
_UNSET = "# "
"""In front of a key that is not set."""


@dataclass(frozen=True)
class ConfigTemplate:
    """A configuration file to edit.

    Attributes:
        model: of the configuration.
        command: of fewshot-i2v that the file is for.
        title: what it does, for the top of the file.
        keys: dotted keys, those of a section together, with their values as YAML. `_UNSET` and a
            value: the key is not set, and the value is an example; `_UNSET` alone: its default.
    """

    model: type[CommonConfig]
    command: Literal["evaluate", "train"]
    title: str
    keys: dict[str, str]


_CLIP_KEYS = {"split": "motions", "root": "# CLIPS"}
_ENCODER_KEYS = {
    "encoder.name": "demo",
    "encoder.pretrained": "# openai",
    "encoder.architecture": "# model.json",
    "encoder.image_size": "# 224",
    "encoder.mean": "# [0.481, 0.458, 0.408]",
    "encoder.std": "# [0.269, 0.261, 0.276]",
    "video.frames": "8",
}
_OUTPUT_KEYS = {"output": "# runs/mine", "device": _UNSET, "workers": "# 4"}
_SWEEP_KEYS = {
    **_CLIP_KEYS,
    "subset": "novel",
    **_ENCODER_KEYS,
    "adapter": "[frozen, st-adapter, aim]",
    "start": "[fresh]",
    "head": '[linear, "prototype:pooling=ordered,center=true"]',
    "tokens": "# grid4+motion",
    "way": "5",
    "shot": "[1, 5]",
    "query": "5",
    "episodes": "50",
    "seed": _UNSET,
    "training_seeds": "# [0, 1, 2]",
    "tuning.recipe": "auto",
    "tuning.steps": _UNSET,
    "tuning.lr": _UNSET,
    "recipes": "# {aim: {lr: 0.003}, st-adapter: {steps: 60}}",
    **_OUTPUT_KEYS,
}
_OF_SWEEPS_ALONE = ("tokens", "training_seeds", "recipes")
_EVALUATION_KEYS = {
    key: value for key, value in _SWEEP_KEYS.items() if key not in _OF_SWEEPS_ALONE
} | {"head": "[linear]", "shot": "[1]"}
_TEMPLATES = {
    "evaluate": ConfigTemplate(
        EvaluationConfig,
        "evaluate",
        "An evaluation: adapters on the same few-shot episodes.",
        _EVALUATION_KEYS,
    ),
    "sweep": ConfigTemplate(
        EvaluationConfig,
        "evaluate",
        "A sweep: a row for every adapter, start, head and shot below, on the same episodes.",
        _SWEEP_KEYS,
    ),
    "train": ConfigTemplate(
        TrainingConfig,
        "train",
        "A training of one adapter on base classes; its result is a start for `evaluate --start`.",
        {
            **_CLIP_KEYS,
            "subset": "base",
            **_ENCODER_KEYS,
            "adapter": "st-adapter",
            "objective": "both",
            "head": '"prototype:pooling=ordered,center=true"',
            "way": "5",
            "shot": "1",
            "query": "2",
            "batch": "4",
            "clips": "32",
            "recipe": "auto",
            "steps": _UNSET,
            "lr": _UNSET,
            "validation.subset": "val",
            "validation.every": "50",
            "augment.flip": "auto",
            "precision": _UNSET,
            **_OUTPUT_KEYS,
            "output": "# starts/mine",
        },
    ),
}


def template_command(kind: str) -> str:
    """The command of fewshot-i2v that a template is for, of `format_template`'s kinds."""
    return _TEMPLATES[kind].command


def format_template(kind: str, file: str) -> str:
    """Format a configuration file to edit.

    Args:
        kind: "evaluate", "sweep" or "train".
        file: its name, for the commands in its first lines.

    Returns:
        YAML that loads as it is, and also with any unset key set to the value beside it.
    """
    template = _TEMPLATES[kind]
    lines = [
        f"# {template.title}",
        "# Made by `fewshot-i2v init`; change it as you like.",
        f"#   fewshot-i2v {template.command} {file} --dry-run   shows rows, clips and time",
        f"#   fewshot-i2v {template.command} {file}             runs it",
        "# A key behind a # is not set. All keys, with their defaults, are in configs/README.md.",
        "# For your own clips, in one folder per class, make the split first:",
        "#   fewshot-i2v episodes new my-clips.yaml --root CLIPS",
        "# then write split: my-clips.yaml below, and an encoder for real videos: name ViT-B-16,",
        "# pretrained openai.",
    ]
    return "\n".join([*lines, *_key_lines(template)]) + "\n"


def _key_lines(template: ConfigTemplate) -> Iterator[str]:
    known_keys = config_keys(template.model)
    current_section = ""
    for name, value in template.keys.items():
        section, _, leaf = name.rpartition(".")
        if not section or section != current_section:
            yield ""
        if section and section != current_section:
            yield f"{section}:"
        current_section = section
        indent = "  " if section else ""
        text = known_keys[name].description
        yield from textwrap.wrap(
            text, _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# "
        )
        is_set = not value.startswith(_UNSET.strip())
        shown = value if is_set else value.removeprefix(_UNSET) or known_keys[name].default
        yield f"{indent}{'' if is_set else _UNSET}{leaf}: {shown}"
