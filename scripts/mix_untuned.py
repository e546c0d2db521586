"""Writes the rows that untuned logits or episodes would have given, from rows tuned without.

    python scripts/mix_untuned.py RUN [RUN ...] --weight 0.5 --out FOLDER
    python scripts/mix_untuned.py RUN [RUN ...] --weight 0 --min-loss 0.01 --out FOLDER
    python scripts/tuning_gains.py RUN [RUN ...] FOLDER --json FILE

Of each tuned row of the RUNs the logits are averaged with those of its row of no steps (of a fresh
adapter without one: of the frozen encoder), and written as a row of FOLDER. Up to a constant of a
query clip, logits are the logarithms of the recorded probabilities. These have six decimals, and a
0 counts as 3e-7: nearly all predictions are those of a run with the key, see the test. --weight is
`tuning.untuned_weight`. With --min-loss, `tuning.min_loss`, episodes with a smaller first loss have
the probabilities of the untuned row.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from scipy.special import softmax
from tuning_gains import UNTUNED, baselines_of

from fewshot_i2v.report.comparison.baselines import read_compared_rows
from fewshot_i2v.runs.episode_record import EpisodeRecord, accuracy_of
from fewshot_i2v.runs.run_folder import RunFolder, read_run

_LEAST_PROBABILITY = 3e-7


def mixed_record(
    tuned: EpisodeRecord, untuned: EpisodeRecord, weight: float, min_loss: float
) -> EpisodeRecord:
    """Returns the record of an episode whose logits are a weighted mean of those of two records.

    Where its first loss is smaller than `min_loss` they are those of the untuned one.

    Raises:
        click.ClickException: when they are not of the same clips.
    """
    if (tuned.support, tuned.query) != (untuned.support, untuned.query):
        raise click.ClickException(f"episode {tuned.index}: two rows have different clips")
    losses = tuned.losses or []
    if losses and losses[0] < min_loss:
        weight, losses = 1.0, losses[:1]
    logits = [
        np.log(np.maximum(record.probabilities, _LEAST_PROBABILITY)) for record in (tuned, untuned)
    ]
    probabilities = softmax((1 - weight) * logits[0] + weight * logits[1], axis=1)
    predictions = probabilities.argmax(1).tolist()
    return replace(
        tuned,
        losses=losses,
        probabilities=probabilities.tolist(),
        predictions=predictions,
        accuracy=accuracy_of(predictions, tuned.labels),
    )


def write_mixed_row(
    tuned_folder: Path, untuned_folder: Path, out: Path, weight: float, min_loss: float
) -> int:
    """Writes a row of the episodes that both rows have, and returns their number."""
    tuned, untuned = read_run(tuned_folder), read_run(untuned_folder)
    identity: dict[str, Any] = dict(tuned.header["identity"])
    # what is recorded is the mean already; a second one would count the untuned logits twice
    if mixed := {"untuned_weight", "min_loss"} & identity["config"]["tuning"].keys():
        key = min(mixed)
        value = identity["config"]["tuning"][key]
        raise click.ClickException(
            f"{tuned_folder}: this row was tuned with {key} {value:g}; expected one that was tuned "
            "alone: run it with --untuned-weight 0 --min-loss 0"
        )
    keys = {"untuned_weight": weight, "min_loss": min_loss}
    tuning = identity["config"]["tuning"] | {key: value for key, value in keys.items() if value}
    identity["config"] = identity["config"] | {"tuning": tuning}
    about = {key: value for key, value in tuned.header.items() if key not in ("identity", "schema")}
    records = [
        mixed_record(record, untuned.records[index], weight, min_loss)
        for index, record in tuned.records.items()
        if index in untuned.records and record.status == untuned.records[index].status == "ok"
    ]
    with RunFolder.open(out / tuned_folder.name, about, identity=identity) as folder:
        folder.append(records)
    return len(records)


@click.command(help=__doc__)
@click.argument(
    "runs", type=click.Path(exists=True, file_okay=False, path_type=Path), nargs=-1, required=True
)
@click.option("--weight", type=click.FloatRange(0, 1, max_open=True), default=0.5)
@click.option("--min-loss", type=click.FloatRange(min=0), default=0.0)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A new folder.")
def main(runs: tuple[Path, ...], weight: float, min_loss: float, out: Path) -> None:
    """Writes a row for each tuned row."""
    rows = read_compared_rows(runs)
    for row in rows:
        for name, _, untuned in baselines_of(row, rows):
            if name == UNTUNED:
                folders = row.summary.folder, untuned.summary.folder
                count = write_mixed_row(*folders, out, weight, min_loss)
                click.echo(f"{folders[0].name}: {count} episodes")


if __name__ == "__main__":
    main()
