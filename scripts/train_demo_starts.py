"""Trains the starting points that come with the package: adapters on `motions`, encoder `demo`.

    python scripts/train_demo_starts.py --work runs/demo-starts

Each adapter is trained as `configs/train/motions.yaml` and its recipe in `configs/recipes/` say,
some ten minutes on one core, and written in half precision to
`configs/starts/demo-motions/ADAPTER`. A training that was interrupted goes on, and one that is
finished is not repeated.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import click

from fewshot_i2v.config.loading import load_train_config
from fewshot_i2v.models.checkpoints.files import atomic_folder, write_checkpoint
from fewshot_i2v.models.checkpoints.starting_point import StartingPoint, read_start
from fewshot_i2v.models.encoders.weights import tensor_digest
from fewshot_i2v.training.train import train

ADAPTERS = ("adaptformer", "aim", "m-adapter", "st-adapter", "zeroi2v")
OUT = Path(__file__).resolve().parents[1] / "configs" / "starts" / "demo-motions"
LIMIT = 1_500_000


def store_in_half(start: StartingPoint, target: Path) -> None:
    """Writes a starting point in half precision, with its head and its rates where it has them.

    Args:
        start: as its training wrote it.
        target: a new folder.
    """
    metadata = start.metadata.model_dump(exclude_unset=True, exclude={"tensors"})
    facts = metadata["about"]["start"]
    facts["stored"] = "float16"
    tensors = {name: tensor.half() for name, tensor in start.tensors.items()}
    for key, extra in (("head", start.head), ("rates", start.rates)):
        if extra is not None:
            halves = {name: tensor.half() for name, tensor in extra.tensors.items()}
            # readers compare the values that they get, in float32
            digest = tensor_digest({name: half.float() for name, half in halves.items()})
            facts[key] = {**facts[key], "digest": digest}
            tensors |= halves
    with atomic_folder(target) as folder:
        write_checkpoint(folder, metadata, tensors)


@click.command(help=__doc__)
@click.option("--work", type=click.Path(path_type=Path), required=True, help="For the trainings.")
@click.option("--out", type=click.Path(path_type=Path), default=OUT, help="Where they go.")
@click.option("--cache", type=click.Path(path_type=Path), help="Folder of decoded clips.")
@click.option("--adapter", "adapters", multiple=True, default=ADAPTERS, help="One of them.")
@click.option("--steps", type=int, help="Instead of the recipe's, to try the script.")
def main(
    work: Path, out: Path, cache: Path | None, adapters: tuple[str, ...], steps: int | None
) -> None:
    """Trains and writes each."""
    for name in adapters:
        # the shipped ones are of this precision, whatever the machine
        given: dict[str, Any] = {"adapter": name, "output": str(work / name), "precision": "bf16"}
        given |= {} if steps is None else {"steps": steps}
        given |= {} if cache is None else {"cache": str(cache)}
        config = load_train_config("train/motions", given)
        train(config, progress=True, log=click.echo)
        target = out / name
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        store_in_half(read_start(work / name, name), target)
        size = sum(path.stat().st_size for path in target.iterdir())
        if size > LIMIT:
            raise click.ClickException(f"{target}: {size:,} bytes; at most {LIMIT:,} are shipped")
        click.echo(f"{target}: {size:,} bytes")


if __name__ == "__main__":
    main()
