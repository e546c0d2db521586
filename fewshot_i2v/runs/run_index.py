"""Find run folders, read their rows, and say which rows share a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fewshot_i2v.errors import RecordError, UsageError
from fewshot_i2v.runs.header import read_json_object
from fewshot_i2v.runs.row_summary import RowSummary, header_facts
from fewshot_i2v.runs.run_folder import read_run
from fewshot_i2v.runs.stopping_record import StoppingRecord
from fewshot_i2v.utils.text_table import count_text

# Rows that differ in anything else do not belong in one table.
_ROW_CONFIG_KEYS = ("adapter", "start", "head", "shot", "tuning", "training_seed", "class_texts")
_PRECISION_TEXTS = {"bf16": ", bf16", "mixed": ", mixed precision"}


def check_runs(runs: Sequence[str | Path]) -> list[Path]:
    """Checks the folders of a call that reads runs.

    Raises:
        UsageError: when there is none.
    """
    if not runs:
        raise UsageError("runs: got none; expected run folders, or folders of some")
    return [Path(run) for run in runs]


def find_run_folders(folder: Path) -> list[Path]:
    """Find the run folders in a folder, by name.

    Raises:
        UsageError: when there is none.
    """
    folders = sorted(path.parent for path in folder.rglob("run.json"))
    if not folders:
        raise UsageError(
            f"{folder}: no run.json in it or in a folder below; expected the --output of an "
            "evaluation"
        )
    return folders


def read_row(folder: Path) -> RowSummary:
    """Read the row that a run folder is.

    Raises:
        RecordError: when it is damaged.
    """
    run = read_run(folder)
    return RowSummary.from_records(
        run.records,
        list(run.records),
        display_flags=run.header.get("marks", {}),
        **header_facts(run.header, folder),
    )


def table_key(row: RowSummary) -> str:
    """Equal for rows of one table."""
    identity = row.identity
    config = {key: value for key, value in row.config.items() if key not in _ROW_CONFIG_KEYS}
    table_facts = [config, *(identity.get(key) for key in ("split", "encoder", "trials"))]
    return json.dumps(table_facts, sort_keys=True)


def row_order(row: RowSummary) -> tuple[int, bool, Path]:
    """Sort key of a row: order in its run; across runs `frozen` first, by name."""
    return row.header.get("position", 0), row.adapter != "frozen", row.folder


def way_of(row: RowSummary) -> int | str:
    """Classes of an episode: a number where it is constant in the records, else a range."""
    way: int | str = row.config["way"]
    low, high = row.ways
    if isinstance(way, str) and high:
        return low if low == high else f"{low}-{high}"
    return way


def setting_text(config: Mapping[str, Any], way: int | str) -> str:
    """The setting of a table in words, from the configuration in the identity of a row.

    The precision is named where it is not fp32.
    """
    query = config["query"]
    queries = count_text(query, "query clip") if isinstance(query, int) else f"{query} query clips"
    return (
        f"split {config['split']} ({config['subset']}), {way}-way, "
        f"{queries} per class, seed {config['seed']}, "
        f"encoder {config['encoder']['name']}, {count_text(config['video']['frames'], 'frame')}"
        + _PRECISION_TEXTS.get(config.get("precision", ""), "")
    )


def stopping_record_of(rows: Sequence[RowSummary]) -> StoppingRecord | None:
    """How an evaluation ended that drew episodes to a half-width.

    None for other or unfinished ones, and where episodes were added.

    Raises:
        RecordError: when a summary is damaged.
    """
    stopping_records = []
    for row in rows:
        path = row.folder / "summary.json"
        advice = "Delete it: the command that wrote the run writes it again"
        summary = read_json_object(path, advice)
        if summary is None:  # it was never finished
            return None
        try:
            n_episodes = row.episodes + row.failed
            stopping_records.append(StoppingRecord.from_summary(summary.get("until"), n_episodes))
        except ValueError as error:
            raise RecordError(f"{path}: damaged: {error}. {advice}") from error
    if any(record != stopping_records[0] for record in stopping_records):
        return None
    return stopping_records[0]
