"""Export of a fitted model to ONNX, compared with PyTorch before it is written."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fewshot_i2v.errors import AdapterError, ExportError, UsageError
from fewshot_i2v.evaluation.clip_scorer import ClipScorer
from fewshot_i2v.evaluation.deployment.exact_model import load_exact, random_clips
from fewshot_i2v.evaluation.deployment.onnx_model import DeployedModel, describe_onnx
from fewshot_i2v.models.checkpoints.model_file import ModelDescription
from fewshot_i2v.statistics.temperature import softmax
from fewshot_i2v.utils.files import sync_file

BATCHES = (1, 3, 8)
"""Numbers of clips at which the file is compared with PyTorch."""
TOLERANCE = 1e-4
"""Largest difference of a probability, and of a logit relative to the largest one."""
_PACKAGES = ("onnx", "onnxscript", "onnxruntime")


@dataclass(frozen=True)
class OnnxExport:
    """Result of an export to ONNX.

    Attributes:
        path: the file.
        bytes: its size, with that of a file of weights beside it where there is one.
        opset: version of the ONNX operators.
        merged: whether the adapter was merged into the encoder's weights.
        difference: largest difference of a probability to PyTorch, over `BATCHES`.
        logit_difference: of a logit, relative to the largest one.
    """

    path: Path
    bytes: int
    opset: int
    merged: bool
    difference: float
    logit_difference: float

    def to_dict(self) -> dict[str, Any]:
        """Plain types, for JSON."""
        return {**vars(self), "path": str(self.path), "batches": list(BATCHES)}


def export_onnx(
    model: str | Path,
    out: str | Path,
    *,
    pretrained: str | Path | None = None,
    architecture: str | Path | None = None,
    force: bool = False,
) -> OnnxExport:
    """Writes a fitted model as an ONNX file: from pixels to calibrated probabilities.

    The input `frames` is (batch, T, 3, H, W) float32, the outputs are `probabilities` and `logits`,
    each (batch, classes), and `nearest` likewise where "none of these" goes by it. How the input is
    made, the classes and the rest is in the metadata of the file. Everything is computed in
    float32. The file is written only if it gives what PyTorch gives, with 1, 3 and 8 clips of
    random pixels.

    Args:
        model: file of the model.
        out: the new file, .onnx.
        pretrained: where the weights of its encoder are now; None: where they were.
        architecture: where the configuration of its encoder is now; None: where it was.
        force: replace `out` if it is there.

    Raises:
        CheckpointError: when the model is damaged or its encoder cannot be loaded.
        UsageError: when the extra [onnx] is not installed, or `out` cannot be used.
        AdapterError: when adapter and head cannot be exported.
        ExportError: when the file gives other results than PyTorch, or the disk refuses.
    """
    path, out = Path(model), Path(out)
    check_packages()
    _check_target(out, force=force)
    classifier, description = load_exact(path, pretrained, architecture)
    deployed = DeployedModel(classifier).eval()
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # weights of 2 GB and more are a file beside it, which it names
        with tempfile.TemporaryDirectory(prefix=f".{out.name}.", dir=out.parent) as folder:
            opset = _write(deployed, description, Path(folder) / out.name)
            differences = _compare(classifier, Path(folder) / out.name)
            files = sorted(Path(folder).iterdir(), key=lambda file: file.name == out.name)
            size = sum(file.stat().st_size for file in files)
            for file in files:
                sync_file(file)
                file.replace(out.parent / file.name)
    except OSError as error:
        raise ExportError(f"{out}: cannot be written: {error.strerror or error}") from error
    return OnnxExport(out, size, opset, deployed.merged, *differences)


def check_packages() -> None:
    """Checks that the packages of the extra [onnx] are installed.

    Raises:
        UsageError: naming those that are not, and the command that installs them.
    """
    missing = [name for name in _PACKAGES if find_spec(name) is None]
    if missing:
        raise UsageError(
            f"export to ONNX needs {', '.join(missing)}, which the plain installation does without:"
            " pip install 'fewshot-i2v[onnx]' (in a clone: pip install '.[onnx]')"
        )


def _check_target(out: Path, *, force: bool) -> None:
    if out.suffix != ".onnx":
        raise UsageError(f"--onnx: got {out}; expected a name that ends in .onnx")
    if out.exists() and not (force and out.is_file()):
        raise UsageError(f"{out}: is already there; give another name, or --force to replace it")


def _write(deployed: DeployedModel, description: ModelDescription, path: Path) -> int:
    """Writes the ONNX file; returns the version of its operators."""
    size = description.checkpoint.encoder.image_size
    frames = torch.zeros(2, description.video.frames, 3, size, size)
    with torch.no_grad():
        deployed(frames)  # fills caches of constants with values, before they are traced
    program = _trace(deployed, description, frames)
    for name, text in describe_onnx(description).items():
        program.model.metadata_props[name] = text
    program.save(path)
    return int(program.model.opset_imports[""])


def _trace(deployed: DeployedModel, description: ModelDescription, frames: torch.Tensor) -> Any:  # noqa: ANN401 - a program of torch.onnx
    checkpoint = description.checkpoint
    logger = logging.getLogger("onnxscript")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it warns of what it does not simplify
    try:
        with torch.no_grad():
            return torch.onnx.export(
                deployed,
                (frames,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                input_names=["frames"],
                output_names=deployed.outputs,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        cause: BaseException = error
        while cause.__cause__ is not None:
            cause = cause.__cause__
        head = checkpoint.head and checkpoint.head.name
        reason = str(cause).strip().partition("\n")[0] or type(cause).__name__
        raise AdapterError(
            f"the adapter {checkpoint.adapter.name} with the head {head} cannot be exported to "
            f"ONNX: {reason}"
        ) from error
    finally:
        logger.setLevel(level)


def _compare(classifier: ClipScorer, path: Path) -> tuple[float, float]:
    """Returns the largest differences of probabilities and logits to PyTorch, within tolerance."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    temperature = 1.0 if classifier.model is None else classifier.model.description.temperature
    differences = []
    for batch in BATCHES:
        clips = random_clips(classifier, batch)
        pixels = classifier.encoder.tower.normalize(torch.from_numpy(np.stack(clips)))
        expected, nearest = classifier.scores_of(clips)
        probabilities, *outputs = session.run(None, {"frames": pixels.numpy()})
        values = [expected] if nearest is None else [expected, nearest]
        differences.append(
            (
                float(np.abs(softmax(expected, temperature) - probabilities).max()),
                max(_relative(*pair) for pair in zip(values, outputs, strict=True)),
            )
        )
    largest = tuple(max(values) for values in zip(*differences, strict=True))
    if not max(largest) <= TOLERANCE:
        raise ExportError(
            f"the ONNX file gives other results than PyTorch: probabilities differ by "
            f"{largest[0]:.2g}, logits by {largest[1]:.2g} of the largest; at most {TOLERANCE} is "
            "accepted. Nothing is written"
        )
    return largest[0], largest[1]


def _relative(expected: NDArray[np.float64], found: NDArray[np.float32]) -> float:
    """Largest difference, relative to the largest value where that is above 1."""
    return float(np.abs(expected - found).max()) / max(1.0, float(np.abs(expected).max()))
