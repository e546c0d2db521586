"""The model card of a fitted model: Markdown with the front matter of the Hugging Face Hub."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import Any

from fewshot_i2v.config.base import EncoderConfig
from fewshot_i2v.config.class_texts import read_class_texts
from fewshot_i2v.config.file_names import parse_pretrained
from fewshot_i2v.evaluation.deployment.onnx_model import describe_frames
from fewshot_i2v.evaluation.fitting.description import compared_model
from fewshot_i2v.evaluation.fitting.text import expectation_lines, percent
from fewshot_i2v.models.checkpoints.model_file import ModelDescription, ShareFacts, read_model
from fewshot_i2v.models.encoders.catalog import PIXELS
from fewshot_i2v.models.encoders.loading import RANDOM_WEIGHTS
from fewshot_i2v.runs.row_summary import TOY_ENCODER
from fewshot_i2v.utils.text_table import count_text
from fewshot_i2v.utils.yaml import dump_yaml

_HUB = "https://huggingface.co"


def model_card(model: str | Path) -> str:
    """Writes the model card of a fitted model: Markdown, with a YAML front matter.

    It says what the model is of, what to expect of it with intervals, its limits, how to use it,
    and which encoder it needs. Class names are in it, names of clips are not.

    Args:
        model: file of the model; the encoder is not needed.

    Raises:
        CheckpointError: when the file is absent, damaged, or of another version.
    """
    path = Path(model)
    description = read_model(path).description
    sections = {
        "Classes and data": _data_lines(description),
        "What to expect": _expectation_lines(description),
        "Limits": _limit_lines(description),
        "How to use it": _usage_lines(path, description),
        "Encoder": _encoder_lines(description),
        "Licence": _licence_lines(description),
        "Method and versions": _method_lines(description),
    }
    classes = description.checkpoint.classes
    introduction = (
        f"Tells {len(classes)} classes of short video clips apart. Fitted by fewshot-i2v "
        f"{description.checkpoint.fewshot_i2v} to {sum(map(len, description.clips.values()))} "
        f"labelled clips. `{path.name}` holds the adapter, the head and features of these clips; "
        "no clip, and not the encoder."
    )
    lines = ["---", dump_yaml(_front_matter(path, description)).rstrip(), "---", ""]
    lines += [f"# {path.stem}", "", introduction]
    for heading, body in sections.items():
        lines += ["", f"## {heading}", "", *body]
    return "\n".join(lines) + "\n"


def _front_matter(path: Path, description: ModelDescription) -> dict[str, Any]:
    accuracy = description.accuracy
    matter: dict[str, Any] = {
        "license": "unknown",
        "library_name": "fewshot-i2v",
        "pipeline_tag": "video-classification",
        "tags": ["few-shot", "video-classification", description.checkpoint.adapter.name],
    }
    if accuracy is None:
        return matter
    source = str(description.checkpoint.about.get("source", path.stem))
    metric = {
        "type": "accuracy",
        "value": round(accuracy.count / accuracy.clips, 4),
        "name": f"share of held-out clips, 95 % interval {accuracy.low:.4f} to {accuracy.high:.4f}",
    }
    result = {
        "task": {"type": "video-classification"},
        "dataset": {"name": source, "type": "labelled-clips"},
        "metrics": [metric],
    }
    return matter | {"model-index": [{"name": path.stem, "results": [result]}]}


def _data_lines(description: ModelDescription) -> Iterator[str]:
    yield "| class | labelled clips |"
    yield "|---|--:|"
    for name in description.checkpoint.classes:
        yield f"| {_cell(name)} | {len(description.clips[name])} |"
    yield ""
    changed = "; classes or clips were updated since" if "fitted_on" in description.card else ""
    source = _cell(str(description.checkpoint.about.get("source", "unknown")))
    yield f"Source: {source}{changed}."
    texts = read_class_texts(description.checkpoint.about.get("class_texts"))
    if texts is not None:
        yield ""
        yield "In place of the class names the head reads these texts. It puts them into its"
        yield "templates, but uses prompts as they are:"
        yield ""
        for name, of_class in texts.by_class.items():
            kinds = (("", of_class.names), ("prompts: ", of_class.prompts))
            shown = [kind + "; ".join(map(_cell, some)) for kind, some in kinds if some]
            yield f"* {_cell(name)}: {', '.join(shown)}"


def _expectation_lines(description: ModelDescription) -> Iterator[str]:
    for line in expectation_lines(description, names_clips=False):
        yield f"* {line[:1].upper()}{line[1:]}."
    card = description.card
    if description.accuracy is not None and "mean_confidence" in card:
        share = 100 * description.accuracy.count / description.accuracy.clips
        yield (
            f"* Probabilities are calibrated by the temperature {description.temperature:.3g}: of "
            f"the held-out clips {share:.1f} % were right, at a mean probability of "
            f"{100 * card['mean_confidence']:.1f} %."
        )
    yield from _comparison_lines(description)


def _comparison_lines(description: ModelDescription) -> Iterator[str]:
    """Yields the methods that were compared, and for which model."""
    tried = [t for t in description.card.get("tried", []) if t["accuracy"] is not None]
    model = compared_model(description)
    if model is not None and len(tried) > 1:
        yield ""
        if model.is_earlier:
            names = _cell(", ".join(model.classes))
            yield "The method in bold was the simplest of the best. It was chosen for the model"
            yield f"before it was updated, of {len(model.classes)} classes ({names})"
            yield f"and {count_text(model.clips, 'clip')}. The figures of this table are of that"
            yield f"model, on clips held out in {model.folds} parts."
        else:
            yield f"Of these methods, tried on clips held out in {model.folds} parts, it is the"
            yield "one in bold: the simplest of the best."
        yield ""
        yield "| method | accuracy, 95 % interval |"
        yield "|---|--:|"
        for row in tried:
            method = f"**{_cell(row['method'])}**" if row["chosen"] else _cell(row["method"])
            stopped = " (stopped early)" if row.get("stopped") else ""
            yield f"| {method}{stopped} | {percent(ShareFacts(**row['accuracy']))} |"


def _limit_lines(description: ModelDescription) -> Iterator[str]:
    yield "* The accuracy is for clips like the labelled ones. Other cameras, people or places are"
    yield "  not in it: test the model on labelled clips of yours first (`fewshot-i2v test`)."
    if description.rejection is None:
        yield "* Every clip gets one of the classes, also one that shows something else."
    else:
        yield '* The rates of "none of these" were measured by leaving classes out. Clips of quite'
        yield "  another kind may be rejected more often, or less."
    yield "* It names short clips of one action. Finding actions in long videos is much harder."


def _usage_lines(path: Path, description: ModelDescription) -> Iterator[str]:
    file = quote(path.name)
    yield "```bash"
    yield f"fewshot-i2v predict {file} new/*.mp4"
    yield "```"
    yield ""
    yield "```python"
    yield "from fewshot_i2v import FewShotClassifier"
    yield ""
    yield f"model = FewShotClassifier.load({json.dumps(path.name)})"
    yield 'for prediction in model.iterate(["new/1.mp4", "new/2.mp4"]):'
    yield "    print(prediction.path, prediction.class_name, prediction.probabilities)"
    yield "```"
    weights = parse_pretrained(description.encoder_source.pretrained or "")[1]
    if weights is not None or description.encoder_source.architecture:
        yield ""
        yield "The encoder was loaded from files: `--pretrained` (in Python `pretrained=`) and"
        yield "`--architecture` say where its weights and its configuration are on your machine."
        yield "Another encoder is refused by its digest."
    yield ""
    yield f"Input: {describe_frames(description)}."


def _encoder_lines(description: ModelDescription) -> Iterator[str]:
    encoder = description.checkpoint.encoder
    yield "| | |"
    yield "|---|---|"
    yield f"| name | {_cell(encoder.name)} |"
    yield f"| weights | {_cell(encoder.pretrained)} |"
    yield f"| sha256 of the weights | `{encoder.digest}` |"
    yield f"| frames | {encoder.image_size} x {encoder.image_size} pixels |"


def _licence_lines(description: ModelDescription) -> Iterator[str]:
    yield "* This model: its author has not said. Write one here and in the front matter, and mind"
    yield "  whose clips they are."
    yield f"* Weights of the encoder, which are not in the file: {_weights_licence(description)}."


def _weights_licence(description: ModelDescription) -> str:
    source = description.encoder_source
    if source.name == PIXELS or source.pretrained == RANDOM_WEIGHTS:
        return "there are none to license, they are " + (
            "pixels" if source.name == PIXELS else "random numbers"
        )
    if source.name == TOY_ENCODER and source.pretrained in (None, "shipped"):
        return "Apache-2.0; they come with fewshot-i2v"
    return f"unknown; open_clip records none. Before you publish or sell anything, {_check(source)}"


def _check(source: EncoderConfig) -> str:
    """Says what to look at to learn the licence of weights."""
    if source.name.startswith("hf-hub:"):
        return f"read the card of {_HUB}/{source.name.removeprefix('hf-hub:')}"
    tag, file = parse_pretrained(source.pretrained or "")
    if tag is None:
        return f"ask whoever made the file {Path(file or '').name}"
    import open_clip

    settings = open_clip.get_pretrained_cfg(source.name, tag) or {}
    places = [f"{_HUB}/{settings['hf_hub'].rstrip('/')}"] if settings.get("hf_hub") else []
    places += [str(settings["url"])] if settings.get("url") else []
    where = f" ({' or '.join(places)})" if places else ""
    return f"read the terms of those who made the weights {source.name}/{tag}{where}"


def _method_lines(description: ModelDescription) -> Iterator[str]:
    checkpoint = description.checkpoint
    methods = {"adapter": checkpoint.adapter, "head": checkpoint.head}
    for kind, method in methods.items():
        if method is not None:
            options = ", ".join(f"{key}={value}" for key, value in method.options.items())
            yield f"* {kind}: {method.name}" + f" ({options})" * bool(options)
    yield f"* starting point: {description.start}"
    if description.tuning:
        tuning = ", ".join(f"{key}={value}" for key, value in description.tuning.items())
        yield f"* tuned on the labelled clips: {tuning}"
    else:
        yield "* nothing was fine-tuned on the labelled clips"
    versions = description.card.get("versions", {"fewshot_i2v": checkpoint.fewshot_i2v})
    yield f"* fitted with {', '.join(f'{key} {value}' for key, value in versions.items())}"


def _cell(text: str) -> str:
    """Escapes text for a cell of a Markdown table."""
    return " ".join(text.replace("|", "\\|").split())
