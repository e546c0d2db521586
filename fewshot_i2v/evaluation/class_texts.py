"""Texts of classes in a run: those of the classes that it uses, checked, as embeddings."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from fewshot_i2v.config.class_texts import TextsByClass
from fewshot_i2v.config.evaluation import EvaluationConfig
from fewshot_i2v.data.splits.split import Split
from fewshot_i2v.errors import ConfigError, UnknownNameError
from fewshot_i2v.models.encoders.text_tower import TextTower
from fewshot_i2v.utils.text_table import count_text, join_names

_MAX_SHOWN = 80
"""Characters of a text that an error shows."""


def take_texts_of_subset(config: EvaluationConfig, split: Split) -> EvaluationConfig:
    """Returns the configuration with the texts of the classes of its subset alone.

    Texts of other classes of the split change nothing, and are left out.

    Args:
        config: of a run, with the subset that its episodes are of.
        split: with its classes.

    Raises:
        UnknownNameError: for texts of a class that no subset of the split has.
        ConfigError: when a class of the subset has no text.
    """
    texts = config.class_texts
    if texts is None:
        return config
    existing = {name for classes in split.subsets.values() for name in classes}
    unknown = [name for name in texts.by_class if name not in existing]
    if unknown:
        more = f" {len(unknown) - 1} more are unknown, too." if len(unknown) > 1 else ""
        raise UnknownNameError(
            "class",
            unknown[0],
            existing,
            f"It has a text in {texts.origin}.{more} Write names as the split {split.name} does, "
            "and leave out classes that it does not have",
        )
    used = split.classes(config.subset)
    missing = [name for name in used if name not in texts.by_class]
    if missing:
        raise ConfigError(
            f"{texts.origin}: no text for {len(missing)} of the "
            f"{count_text(len(used), 'class')} of the subset {config.subset}: "
            f"{join_names(missing, 5)}; expected one for each. Add them; a class whose "
            "name says enough may have its name as text"
        )
    return config.model_copy(update={"class_texts": texts.of_classes(used)})


def embed_class_texts(
    names: Sequence[str],
    templates: Sequence[str],
    tower: TextTower,
    texts: TextsByClass | None,
) -> dict[str, Tensor]:
    """Embeds classes by their texts, or by their names where there are no texts.

    Args:
        names: of the classes, each with a text.
        templates: prompts with one {} each, where a name goes.
        tower: of the encoder.
        texts: None: none were given.

    Returns:
        By name, (J,) float32 on the CPU, of length one.

    Raises:
        ConfigError: when texts are longer than the tower can read, whether or not `names` has
            their classes.
        EncoderError: as `TextTower.embed_names`.
    """
    if texts is None:
        return dict(zip(names, tower.embed_names(names, templates), strict=True))
    prompts = {name: entry.fill(templates) for name, entry in texts.by_class.items()}
    too_long = [
        (name, prompt, n_tokens)
        for name, of_class in prompts.items()
        for prompt in of_class
        if (n_tokens := tower.count_tokens(prompt)) > tower.max_tokens
    ]
    if too_long:
        name, prompt, n_tokens = too_long[0]
        shown = prompt if len(prompt) <= _MAX_SHOWN else f"{prompt[: _MAX_SHOWN - 3]}..."
        classes = list(dict.fromkeys(name for name, _, _ in too_long))
        all_of_them = f" In all {len(too_long)} prompts are too long, of {join_names(classes, 5)}."
        raise ConfigError(
            f"{texts.origin}: class {name!r}: the prompt {shown!r} has {n_tokens} tokens; expected "
            f"at most {tower.max_tokens}, which this text tower reads."
            f"{all_of_them if len(too_long) > 1 else ''} Shorten the text, or the templates of the "
            "head: nothing is cut off"
        )
    return {name: tower.embed_prompts(prompts[name]) for name in names}
