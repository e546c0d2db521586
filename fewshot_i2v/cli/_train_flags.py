"""The flags of `fewshot-i2v train` and the configuration keys they set."""

from __future__ import annotations

from typing import Any

from fewshot_i2v.cli._flags import (
    ADAPTERS,
    CLIP_NORM,
    ENCODER,
    FLOAT,
    HEADS,
    INT,
    LIMITS,
    PATH,
    SPLITS,
    SWITCH,
    TEXT,
    VIDEO,
    Table,
    flags_of,
    one_of,
)

_ONE: dict[str, Any] = {"multiple": False}
_OBJECTIVE = one_of("episodic", "classify", "both", "maml", "meta-sgd", "anil", "reptile")
_SUBSET = TEXT | {"metavar": "NAME|off"}


def _key(kind: dict[str, Any], key: str) -> dict[str, Any]:
    return kind | {"key": key}


_FLAGS: Table = [
    (
        "Training",
        "",
        [
            ("--split", SPLITS, "Split by name or path."),
            ("--root", PATH, "Folder of the split's clips."),
            ("--subset", TEXT, "Subset whose classes are trained on; never novel."),
            ("--seed", INT, "Of batches, initial parameters and augmentation."),
            ("--adapter", ADAPTERS | _ONE, "Adapter with its options."),
            ("--objective", _OBJECTIVE, "What is minimised."),
            ("--head", HEADS | _ONE, "Head of the episodes, with its options."),
            ("--way", INT, "Classes of a training episode."),
            ("--shot", INT, "Support clips per class."),
            ("--query", INT, "Query clips per class."),
            ("--batch", INT, "Episodes of a step."),
            ("--clips", INT, "Clips of a step, for classification."),
        ],
    ),
    (
        "Validation",
        "validation",
        [
            ("--val-subset", _key(_SUBSET, "subset"), "Its classes choose the state; never novel."),
            ("--val-class", _key(TEXT | {"multiple": True}, "classes"), "Hold out; repeatable."),
            ("--val-every", _key(INT, "every"), "Steps between two validations."),
            ("--val-episodes", _key(INT, "episodes"), "Episodes of each validation."),
            ("--val-shot", _key(INT, "shot"), "Support clips per class."),
            ("--val-head", _key(HEADS | _ONE, "head"), "Head that scores them."),
        ],
    ),
    ENCODER,
    VIDEO,
    (
        "Steps",
        "",
        [
            ("--steps", INT, "Optimizer steps."),
            ("--lr", FLOAT, "Learning rate of the adapter."),
            ("--head-lr", FLOAT, "Learning rate of what else is trained."),
            ("--weight-decay", FLOAT, "Weight decay of matrices."),
            ("--warmup", FLOAT, "Fraction of the steps with a growing rate."),
            ("--schedule", one_of("cosine", "constant"), "Learning rate after that."),
            ("--clip-norm", CLIP_NORM, "Largest gradient norm."),
            ("--accumulate", INT, "Parts of a step, one after the other; saves memory."),
            ("--checkpointing/--no-checkpointing", SWITCH, "Compute blocks twice; saves memory."),
        ],
    ),
    (
        "Augmentation",
        "augment",
        [
            ("--flip", one_of("off", "auto", "on"), "Mirror clips; auto: unless sided."),
            ("--colour", FLOAT, "Largest change of brightness, contrast and saturation."),
            ("--temporal/--no-temporal", SWITCH, "Frames at random within their segments."),
        ],
    ),
    (
        "Meta-training",
        "inner",
        [
            ("--inner-steps", _key(INT, "steps"), "Fine-tuning steps inside a step."),
            ("--inner-lr", _key(FLOAT, "lr"), "Their learning rate."),
            ("--inner-rate", _key(FLOAT, "rate"), "Reptile: how far the start moves, 0 to 1."),
            ("--second-order/--first-order", SWITCH, "Gradients through the inner steps."),
        ],
    ),
    (
        "Running",
        "",
        [
            ("--precision", one_of("fp32", "bf16"), "Of the frozen encoder."),
            ("--device", TEXT, "auto, cpu, cuda or cuda:N."),
            ("--deterministic/--no-deterministic", SWITCH, "Only deterministic kernels."),
            ("--workers", INT, "Decoding processes."),
            ("--cache", PATH, "Folder of decoded clips."),
            (
                "--verify/--no-verify",
                SWITCH,
                "Read all clips again, changed or not.",
            ),
            ("--save-every", INT, "Steps between two saved states."),
            ("--output -o", PATH, "Folder of the starting point; starts/NAME if not given."),
        ],
    ),
    LIMITS,
]

train_flags = flags_of(_FLAGS)
"""Adds all flags that set a key of a training's configuration."""
