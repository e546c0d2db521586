"""First lines of a run: what it is of, and the origin of settings that are not the defaults."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from fewshot_i2v.runs.row_summary import TOY_ENCODER, TOY_ENCODER_ADVICE
from fewshot_i2v.utils.text_table import WIDTH, wrap_notes, wrap_text

if TYPE_CHECKING:
    from fewshot_i2v.config.base import CommonConfig


def echo_settings(run: CommonConfig, source: str, explicit: Mapping[str, Any]) -> None:
    """Write split, encoder and the settings that are no defaults to standard error.

    Args:
        run: the configuration of an evaluation or a training.
        source: the name of the configuration that was read.
        explicit: keys set on the command line.
    """
    for line in settings_lines(run, source, explicit):
        click.echo(line, err=True)


def settings_lines(run: CommonConfig, source: str, explicit: Mapping[str, Any]) -> list[str]:
    """Describe a run, and the origin of settings not at their default; as `echo_settings`."""
    from fewshot_i2v.config.evaluation import EvaluationConfig
    from fewshot_i2v.config.origins import find_setting_origins

    encoder = " ".join(filter(None, (run.encoder.name, run.encoder.pretrained)))
    settings_by_origin = find_setting_origins(run, source, explicit)
    end = "; settings that are not the defaults:" if settings_by_origin else ""
    lines = wrap_notes([f"split {run.split}, encoder {encoder}{end}"])
    for origin, settings in settings_by_origin.items():
        # a setting stands on one line, unless it is longer than that
        texts = [f"{key} {value}" for key, value in settings.items()]
        listed_settings = ", ".join(
            text.replace(" ", "\xa0") if len(text) < WIDTH - 6 else text for text in texts
        )
        wrapped = wrap_text(f"{origin}: {listed_settings}", first="  ", hanging="    ")
        lines += [line.replace("\xa0", " ") for line in wrapped]
    if run.encoder.name == TOY_ENCODER and run.root is not None:
        lines += wrap_notes(
            [f"warning: encoder {TOY_ENCODER} is a toy; for real clips: {TOY_ENCODER_ADVICE}"]
        )
    is_evaluation = isinstance(run, EvaluationConfig)
    if is_evaluation and not {"adapter"} & {*explicit, *settings_by_origin.get(source, {})}:
        lines.append("adapter frozen alone; with --adapter frozen --adapter aim both are compared")
    return [*lines, ""]
