"""Text of `--dry-run`: a table of what would be done, what it would cost, and how that is known."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fewshot_i2v.config.start_names import FRESH, start_name_of
from fewshot_i2v.utils.text_table import WIDTH, align_columns, count_text, escape_name, wrap_notes
from fewshot_i2v.utils.timing import format_seconds

Plan = Mapping[str, Any]
_LEFT = ("adapter", "start", "head")


def evaluation_lines(plan: Plan) -> list[str]:
    """Return the lines for the dry run of an evaluation."""
    cost, config = plan["cost"], plan["config"]
    rows: Sequence[Plan] = cost["rows"]
    seeds = [row.get("training_seed") for row in rows]
    many_heads = len({row["head"] for row in rows}) > 1
    columns = {
        "adapter": [escape_name(row["adapter"]) for row in rows] + ["total"],
        "start": [_start(row) for row in rows] + [""],
        **({"head": [escape_name(row["head"]) for row in rows] + [""]} if many_heads else {}),
        "shot": [str(row["shot"]) for row in rows] + [""],
        **({"seed": [str(seed) for seed in seeds] + [""]} if set(seeds) != {None} else {}),
        "episodes": [str(row["episodes"]) for row in rows] + [""],
        "clips": [str(row["clips"]) for row in rows] + [str(cost["clips"])],
        "time": [format_seconds(row["seconds"]) for row in rows]
        + [format_seconds(cost["seconds"])],
        "MiB": [f"{row['memory_mb']:,}" for row in rows] + [f"{cost['memory_mb']:,}"],
    }
    trials = cost["trials"]
    notes = [
        f"An estimate for {cost['device']} as busy as now. Measured on a few clips of noise: "
        f"{count_text(trials['adapters'], 'adapter')} and {count_text(trials['heads'], 'head')}. "
        "Reckoned from that and the number of clips and steps: time and memory of each row. "
        f"Decoding {count_text(cost['clips'], 'clip')} comes on top, unless cached."
    ]
    if cost["clips_to_generate"]:
        notes.append(f"Before that, unless cached: to generate {_generation(cost)}.")
    missing = cost["missing_clips"]
    if missing:
        notes.insert(
            0,
            f"{len(missing)} of the {count_text(cost['clips'], 'clip')} have no file, such as "
            f"{missing[0]}: the run would stop there. --root says where they are; `fewshot-i2v "
            "episodes check` lists what is missing.",
        )
    if config.get("until") is not None:
        notes.append(
            f"With until {config['until']:g} these are the episodes before the first look at the "
            f"intervals; there may be up to {config['max_episodes']:,} of each row."
        )
    if plan.get("class_texts"):
        notes.append(_note_on_texts(plan["class_texts"]))
    notes += _note_on_processes(cost)
    notes += plan["notes"]
    return [*align_columns(columns, _LEFT, WIDTH), "", *wrap_notes(notes)]


def _note_on_texts(counts: Mapping[str, int]) -> str:
    """How many texts the heads read in place of class names."""
    return (
        f"Heads that read class names read texts of {count_text(counts['classes'], 'class')} in "
        f"their place: {count_text(counts['names'], 'name')} in each template, "
        f"{count_text(counts['prompts'], 'complete prompt')}."
    )


def _generation(cost: Plan) -> str:
    """Clips to generate, and how long that takes."""
    count = count_text(cost["clips_to_generate"], "clip")
    return f"{count}, about {format_seconds(cost['generation_seconds'])}"


def _note_on_processes(cost: Plan) -> list[str]:
    """Name the engine where it is reckoned to save a third of the time, and at least a minute."""
    processes = cost.get("processes")
    if processes is None:
        return []
    saved = cost["seconds"] - processes["seconds"]
    if saved < max(60, cost["seconds"] / 3):
        return []
    return [
        f"--engine processes divides the episodes among {processes['count']} processes of one "
        f"thread each: about {format_seconds(processes['seconds'])} and "
        f"{processes['memory_mb']:,} MiB together."
    ]


def fit_lines(plan: Plan) -> list[str]:
    """Return the lines for the dry run of a fit."""
    methods: Sequence[Plan] = plan["methods"]
    tuned = [method for method in methods if method["is_tuned"]]
    columns = {
        "method": [escape_name(_method(method)) for method in methods],
        "head": [escape_name(method["head"]) for method in methods],
        "parts": [str(method["folds"]) for method in methods],
        "time": [format_seconds(method["seconds"]) for method in methods],
        "if fitted": [
            format_seconds(method["seconds_if_fitted"]) if method["is_tuned"] else "-"
            for method in methods
        ],
        "MiB": [f"{method['memory_mb']:,}" for method in methods],
    }
    notes = [
        f"{count_text(plan['clips'], 'clip')} of {count_text(plan['classes'], 'class')}. An "
        f"estimate for {plan['device']} as busy as now, in one process, measured on a few clips of "
        f'noise: at most {format_seconds(plan["seconds"])} together. "time" is that of all parts '
        "of held-out clips."
    ]
    if tuned:
        notes.append(
            '"if fitted" comes on top where this method is chosen: it is fine-tuned on all clips, '
            'and without each class in turn for "none of these" (--reject 0 leaves that out). '
            "Methods stop where they cannot be chosen any more (unless --no-race); --processes "
            "shares the fine-tuning."
        )
    return [
        *align_columns(columns, ("method", "head"), WIDTH),
        "",
        *wrap_notes([*notes, *plan["notes"]]),
    ]


def _method(method: Plan) -> str:
    if method["start"] == FRESH:
        return str(method["adapter"])
    untuned = "" if method["is_tuned"] else " untuned"
    return f"{method['adapter']} from {start_name_of(method['start'])}{untuned}"


def training_lines(plan: Plan) -> list[str]:
    """Return the lines for the dry run of a training."""
    from fewshot_i2v.config.method import MethodSpec

    cost, config, classes = plan["cost"], plan["config"], plan["classes"]
    rows = {
        "adapter": escape_name(MethodSpec(**config["adapter"]).label),
        "start": escape_name(start_name_of(config["start"])),
        "classes": f"{len(classes['trained'])} to train on, {len(classes['watched'])} to validate",
        "clips": f"{cost['clips']} to train on, {cost['validation_clips']} to validate",
        "parameters": f"{cost['parameters']:,}",
        "steps": f"{config['steps']:,} of {count_text(cost['clips_per_step'], 'clip')}",
        "rate": f"{config['lr']:g}",
        "a step": f"{cost['seconds_per_step']:.2f} s",
        "all steps": format_seconds(cost["seconds"]),
        **({"generate": _generation(cost)} if cost["clips_to_generate"] else {}),
        "memory": f"{cost['memory_mb']:,} MiB",
    }
    note = (
        f"An estimate for {cost['device']} as busy as now. Measured: a step of a few clips of "
        "noise. Reading and augmenting clips, and validations, come on top."
    )
    if cost["clips_to_generate"]:
        note += " The clips that the steps draw are generated first, once: measured on two of them."
    notes = [*plan["notes"], plan["recipe"]["remark"], note]
    return [*(f"{name:<12}{value}" for name, value in rows.items()), "", *wrap_notes(notes)]


def _start(row: Plan) -> str:
    if row["adapter"] == "frozen":
        return "-"
    untuned = ", untuned" if row["start"] != FRESH and not row["steps"] else ""
    return escape_name(start_name_of(row["start"])) + untuned
