"""The folder of an exported episode: adapter, head, support clips, and the origin of all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from fewshot_i2v.config.file_names import parse_pretrained
from fewshot_i2v.evaluation.row_runner import RowRunner, TunedGroup
from fewshot_i2v.evaluation.support_features import needed_support_tensors
from fewshot_i2v.models.checkpoints.adapter_checkpoint import write_adapter
from fewshot_i2v.models.checkpoints.files import atomic_folder
from fewshot_i2v.models.checkpoints.merging import merge_into
from fewshot_i2v.models.checkpoints.metadata import CheckpointMetadata
from fewshot_i2v.models.encoders.loading import load_encoder
from fewshot_i2v.runs.episode_record import EpisodeRecord


def write_export_folder(
    target: Path,
    runner: RowRunner,
    tuned: TunedGroup,
    position: int,
    about: dict[str, Any],
    *,
    merge: bool,
) -> tuple[CheckpointMetadata, tuple[str, ...]]:
    """Writes the folder of an episode, and returns its metadata and the names of its files.

    Args:
        target: a new folder.
        runner: of the row.
        tuned: episodes that were tuned in parallel, with a copy of adapter and head for each.
        position: of the episode among them.
        about: origin of the adapter, see `origin_facts`.
        merge: whether to merge the adapter into the weights of the encoder.
    """
    row, context, record = runner.row, runner.context, tuned.records[position]
    episodes = [runner.episodes[other.index] for other in tuned.records]
    support = needed_support_tensors(runner, tuned.encoder, tuned.head, episodes, position)
    adapter, name = tuned.encoder.adapter, row.adapter.name
    with atomic_folder(target) as draft:
        merged = None
        if merge:
            settings = vars(context.config.encoder)
            source = {key: settings[key] for key in ("name", "pretrained", "architecture")}
            constants = {key: settings[key] for key in ("image_size", "mean", "std")}
            # merging adds up weights: in float32 on the CPU, whatever the run computed with
            exact_encoder = load_encoder(**source, **constants)
            clip = torch.from_numpy(context.frames(record.query[0][0]).copy())
            pixels = exact_encoder.tower.normalize(clip[None])
            merged = merge_into(draft, exact_encoder, name, adapter, position, pixels, source)
        info = write_adapter(
            draft,
            context.encoder,
            name,
            adapter,
            row.head.name,
            tuned.head,
            episode=position,
            classes=record.classes,
            preset=row.adapter.options.get("preset"),
            text_digest=context.text_tower.digest if runner.display_flags["uses_names"] else None,
            about=about,
            merge=merged,
            support=support,
        )
        return info, tuple(sorted(path.name for path in draft.iterdir()))


def origin_facts(
    run: Path, runner: RowRunner, record: EpisodeRecord, accuracy: float
) -> dict[str, Any]:
    """Returns the origin of an exported adapter; `accuracy` is its own, beside that of the run."""
    split, start = runner.context.split, runner.start
    start_facts = {} if start is None else {"kind": start.kind, "digest": start.digest}
    return {
        # not `start`, which says what a starting point was trained on
        **({"started_from": start_facts} if start_facts else {}),
        "run": run.resolve().name,
        "episode": record.index,
        "accuracy": accuracy,
        "run_accuracy": record.accuracy,
        "split": {"name": split.name, "version": split.version, "digest": split.digest},
        "support": [list(clips) for clips in record.support],
        "config": runner.row.identity(),
    }


def encoder_files(runner: RowRunner) -> dict[str, str]:
    """Returns the files that the encoder of a row was loaded from, by flag; none for names."""
    source = runner.context.config.encoder
    weights = parse_pretrained(source.pretrained or "")[1]
    files = {"pretrained": weights and source.pretrained, "architecture": source.architecture}
    return {key: str(file) for key, file in files.items() if file}
