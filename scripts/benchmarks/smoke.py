"""Smoke run: every adapter, every head, a training and a fitted model, once on a device.

    python scripts/benchmarks/smoke.py --device cuda --json smoke.json

A tiny encoder with random weights reads generated clips; heads that read class names get the
encoder `demo`. Each check runs three times: on the device in the precision that is its default, and
in float32 on the device and on the CPU, whose probabilities may differ by at most 0.01. The file is
written again after every check. A check that fails does not stop the others, unless the device does
not answer any more. Ends with status 1 where one failed.
"""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

import click
import numpy as np
import torch
from _about import about, default_device, synchronize, write_report

from fewshot_i2v import evaluate, fit, read_run, registry, train
from fewshot_i2v.data.splits.split import Generator
from fewshot_i2v.data.synthetic.generate import class_names, write_missing_clips

LARGEST_DIFFERENCE = 0.01
ORDERED = "prototype:pooling=ordered,center=true"
AUGMENTED = {
    "views": 2,
    "crop_scale": [0.6, 1.0],
    "colour": 0.3,
    "temporal": True,
    "flip": "auto",
}
_VISION = {"layers": 2, "width": 32, "head_width": 16, "patch_size": 16, "image_size": 32}
_QUICK = ("adapter st-adapter", "adapter aim", "head trx", "training step", "fit and predict")

Values = np.ndarray
Check = Callable[[Path, str, str], Values]
"""From work folder, device and precision to probabilities, (rows, classes)."""


def write_material(work: Path) -> None:
    """Write architecture, split and class folders of clips that the checks share."""
    names = list(class_names("shapes")[:4])
    content = {"embed_dim": 32, "vision_cfg": _VISION}
    (work / "tiny.json").write_text(json.dumps(content), encoding="utf-8")
    (work / "tiny.yaml").write_text(
        "name: tiny\nversion: 1\nsource: generated\nlicence: none\n"
        "generator: {name: shapes, seed: 0, size: 32, frames: 8, fps: 8, clips: 8}\n"
        f"subsets:\n  novel: [{', '.join(names)}]\n",
        encoding="utf-8",
    )
    (work / "train.yaml").write_text(
        "name: few\nversion: 1\nsource: generated\nlicence: none\n"
        "generator: {name: motions, seed: 0, size: 32, frames: 8, fps: 8, clips: 8}\n"
        "subsets:\n  base: [grows, moves-left, moves-right, shrinks]\n"
        "  val: [moves-down, moves-up]\n  novel: [brightens, darkens]\n",
        encoding="utf-8",
    )
    generator = Generator("shapes", seed=0, size=32, frames=8, fps=8, clips=4)
    clips = [f"{name}/{name}-{i:03}.mp4" for name in names[:3] for i in range(4)]
    write_missing_clips(generator, clips, work / "clips")


def common_keys(work: Path, device: str, precision: str) -> dict[str, Any]:
    """Make the keys that all checks share."""
    encoder = {"name": "tiny", "architecture": str(work / "tiny.json"), "pretrained": "random"}
    return {
        "encoder": encoder | {"mean": 0.5, "std": 0.5},
        "precision": precision,
        "video": {"frames": 4, "crop": 1.0},
        "workers": 1,
        "device": device,
        "cache": str(work / "cache"),
    }


@dataclass(frozen=True)
class Evaluation:
    """A check that tunes and predicts two episodes side by side.

    Attributes:
        changes: keys of the evaluation besides those that all share.
    """

    changes: dict[str, Any]

    def __call__(self, work: Path, device: str, precision: str) -> Values:
        """Return the probabilities of all queries."""
        case = {"adapter": "st-adapter", "head": ORDERED, **self.changes}
        tuning = {"steps": 2, "recipe": "none", **case.get("tuning", {})}
        with TemporaryDirectory(dir=work) as output:
            result = evaluate(
                {
                    **common_keys(work, device, precision),
                    **{"split": str(work / "tiny.yaml"), "way": 3, "query": 2, "episodes": 2},
                    **{"at_once": 2, "output": output, **case, "tuning": tuning},
                }
            )
            records = [read_run(row.folder).records for row in result.rows]
            return np.concatenate([r[i].probabilities for r in records for i in sorted(r)])


def training_step(work: Path, device: str, precision: str) -> Values:
    """Train two steps of episodes and of classification, and evaluate the starting point."""
    with TemporaryDirectory(dir=work) as output:
        train(
            {
                **common_keys(work, device, precision),
                **{"split": str(work / "train.yaml"), "adapter": "st-adapter", "objective": "both"},
                **{"head": ORDERED, "way": 3, "shot": 1, "query": 2, "batch": 2, "clips": 6},
                **{"steps": 2, "lr": 0.01, "output": str(Path(output) / "start")},
                "validation": {"every": 1, "episodes": 2, "shot": 1, "query": 2},
            }
        )
        start = {"start": [str(Path(output) / "start")], "untuned": False}
        return Evaluation(start)(work, device, precision)


def fit_and_predict(work: Path, device: str, precision: str) -> Values:
    """Fit a tuned model to clip folders, and predict the same clips."""
    keys = common_keys(work, device, precision)
    tuning = {"steps": 2, "recipe": "none"}
    model = fit(work / "clips", adapter="st-adapter", head=ORDERED, tuning=tuning, reject=0, **keys)
    return model.predict_proba(sorted((work / "clips").rglob("*.mp4")))


def checks() -> dict[str, Check]:
    """Name all checks: those of the most used methods first."""
    adapters = sorted(registry.method_names("adapters"), key=lambda n: (n != "st-adapter", n))
    found: dict[str, Check] = {
        f"adapter {name}": Evaluation(
            {"adapter": name, "head": "prototype" if name == "frozen" else "linear"}
        )
        for name in adapters
    }
    found |= {"training step": training_step, "fit and predict": fit_and_predict}
    for name in registry.method_names("heads"):
        head = registry.load_method("heads", name)
        named = {"encoder": "demo"} if head.uses_class_names else {}
        found[f"head {name}"] = Evaluation({"head": name, "shot": 2, **named})
    readouts = f"{ORDERED},tokens=summary+grid2+frozen-motion,weights=loo"
    return found | {
        "readouts": Evaluation({"head": readouts, "shot": 2}),
        "augmented": Evaluation({"tuning": AUGMENTED}),
        "mini-batches": Evaluation({"head": "linear", "shot": 2, "tuning": {"batch": 2}}),
        "deterministic": Evaluation({"head": f"{ORDERED},tokens=grid2", "deterministic": True}),
    }


def run_check(check: Check, work: Path, device: str) -> dict[str, Any]:
    """Run a check three times, and say what came of it."""
    start = perf_counter()
    row: dict[str, Any] = {"status": "failed", "stage": f"{device}, default precision"}
    try:
        values = check(work, device, "auto")
        row["stage"] = f"{device}, fp32"
        exact = check(work, device, "fp32")
        row["stage"] = "cpu, fp32"
        expected = check(work, "cpu", "fp32") if device != "cpu" else exact
        synchronize(torch.device(device))
    except Exception:  # noqa: BLE001 - whatever it is, the other checks are run
        return row | {"error": traceback.format_exc(limit=-6).splitlines()[-14:]}
    difference = float(np.abs(exact - expected).max())
    finite = bool(np.isfinite(values).all() and np.isfinite(exact).all())
    good = finite and difference <= LARGEST_DIFFERENCE
    return {
        "status": "ok" if good else "differs" if finite else "not finite",
        "largest_difference": difference,
        "largest_difference_of_default": float(np.abs(values - expected).max()),
        "seconds": round(perf_counter() - start, 2),
    }


def run_checks(work: Path, device: str, names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Run the named checks in turn, until the device does not answer any more."""
    write_material(work)
    every = checks()
    for i, name in enumerate(names):
        row = {"check": name, **run_check(every[name], work, device)}
        yield row
        if row["status"] != "failed":
            continue
        try:  # an error of the device itself ends all that the process could still do with it
            synchronize(torch.device(device))
        except RuntimeError as error:
            reason = f"the device does not answer after {name}: {error}"
            for left in names[i + 1 :]:
                yield {"check": left, "status": "not run", "error": [reason]}
            return


@click.command(help=__doc__)
@click.option("--device", help="cpu, cuda or cuda:N; the GPU where there is one.")
@click.option("--check", "only", multiple=True, help="One of the checks; by default all.")
@click.option("--quick", is_flag=True, help=f"{len(_QUICK)} checks.")
@click.option("--json", "file", type=click.Path(path_type=Path), help="Write the results.")
def main(device: str | None, only: tuple[str, ...], quick: bool, file: Path | None) -> None:
    """Run the checks; the module's docstring is its help."""
    target = torch.device(device) if device else default_device()
    names = list(only or (_QUICK if quick else checks()))
    if unknown := [name for name in names if name not in checks()]:
        raise click.ClickException(f"--check {unknown[0]}: expected one of {', '.join(checks())}")
    facts, rows = about(target), list[dict[str, Any]]()
    with TemporaryDirectory() as work:
        for row in run_checks(Path(work), str(target), names):
            rows.append(row)
            click.echo(f"{row['check']:<32}{row['status']:<10}{row.get('seconds', '')}")
            click.echo("\n".join(row.get("error", [])), err=True, nl="error" in row)
            write_report(file, {"about": facts, "planned": len(names), "rows": rows})
    if failed := [row["check"] for row in rows if row["status"] != "ok"]:
        raise click.ClickException(f"{len(failed)} of {len(names)} failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
