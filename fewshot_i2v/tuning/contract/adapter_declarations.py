"""Checks of what an adapter says about itself, and of how it is built."""

from __future__ import annotations

import re

import pydantic
import torch

from fewshot_i2v.errors import AdapterError
from fewshot_i2v.models.encoders.tower import Tower
from fewshot_i2v.models.factory import check_episode_axis
from fewshot_i2v.tuning.contract.adapter_subject import AdapterSubject, shared_tower
from fewshot_i2v.tuning.contract.check import Check, fail, require, require_citations
from fewshot_i2v.tuning.contract.tiny_encoder import vit_b16, vit_l14

_FLAGS = ("identity_at_init", "mergeable", "one_episode_at_a_time")
_PARAMETERS = re.compile(r"Parameters( of an episode)?: ")


def _describes_itself(subject: AdapterSubject) -> None:
    adapter_class, summary = subject.adapter_class, subject.summary
    require(
        20 <= len(summary) < 110,
        f"the first line of the file has {len(summary)} characters: {summary!r}",
        "Begin the file with a docstring whose first line says in 20 to 109 characters what it is.",
    )
    require(
        bool(re.search("http|unpublished", adapter_class.source)),
        f"source is {adapter_class.source!r}",
        "Name authors, title, year and the address of the paper, or say unpublished and whose.",
    )
    require_citations(adapter_class)
    for flag in _FLAGS:
        value = getattr(adapter_class, flag)
        require(isinstance(value, bool), f"{flag} is {value!r}", "Set it to True or False.")
    note = adapter_class.display_note
    require(
        isinstance(note, str), f"display_note is {note!r}", "Set it to a text, or leave it out."
    )


def _can_be_built(subject: AdapterSubject) -> None:
    adapter = subject.build(1, 2).adapter
    require(
        hasattr(adapter, "episodes"),
        "its __init__ does not call that of Adapter",
        "Begin __init__ with super().__init__(tower, options, frames=frames, seeds=seeds).",
    )


def _has_an_episode_axis(subject: AdapterSubject) -> None:
    adapter = subject.build(1, 2, 3).adapter
    try:
        check_episode_axis(adapter, subject.name)
    except AdapterError as error:
        fail(
            str(error).partition(": ")[2],
            "The layers of fewshot_i2v.models.adapters.layers have the axis; a parameter of your "
            "own is torch.zeros((self.episodes, ...)) or torch.stack of a draw per generator.",
        )


def _registers_its_parameters(subject: AdapterSubject) -> None:
    adapter = subject.build(1, 2).adapter
    registered = {id(parameter) for parameter in adapter.parameters()}
    for module_name, module in adapter.named_modules():
        for name, value in vars(module).items():
            items = value.values() if isinstance(value, dict) else value
            for item in items if isinstance(items, (list, tuple)) else [items]:
                lost = isinstance(item, torch.Tensor) and item.requires_grad
                require(
                    not lost or id(item) in registered,
                    f"{f'{module_name}.{name}'.lstrip('.')} holds a tensor to be trained that "
                    "is no parameter of the module: it is neither trained nor saved",
                    "Make it an nn.Parameter, and put several into nn.ParameterList, not into a "
                    "plain list or dictionary.",
                )


def _copies_share_nothing(subject: AdapterSubject) -> None:
    advice = (
        "Make a new tensor for every copy and every adapter in __init__: torch.stack, .repeat or "
        "torch.zeros((self.episodes, ...)), never .expand or a tensor of the class or module."
    )
    first, second = subject.build(1, 2).adapter, subject.build(1, 2).adapter
    storages = {p.untyped_storage().data_ptr() for p in first.parameters()}
    for name, parameter in first.named_parameters():
        values = parameter[0].numel() * parameter.element_size()
        require(
            parameter.untyped_storage().nbytes() >= values * first.episodes,
            f"the copies of the parameter {name} share their memory: one tensor is expanded",
            advice,
        )
    for name, parameter in second.named_parameters():
        require(
            parameter.untyped_storage().data_ptr() not in storages,
            f"two adapters share the parameter {name}: training one changes the second",
            advice,
        )


def _needs_seeds(subject: AdapterSubject) -> None:
    try:
        subject.create(shared_tower(), seeds=())
    except AdapterError:
        return
    fail(
        "it can be built without a seed",
        "Call super().__init__ first; it refuses an empty list of seeds.",
    )


def _refuses_a_tower_without_blocks(subject: AdapterSubject) -> None:
    tower = shared_tower().with_blocks([])
    if not subject.build().adapter.requires_blocks:
        first = subject.create(tower).first_trained_block
        require(
            first == 0,
            f"first_trained_block is {first} for an encoder without blocks",
            "Return 0 there.",
        )
        return
    try:
        subject.create(tower)
    except AdapterError:
        return
    fail(
        "it accepts an encoder without transformer blocks, although requires_blocks is True",
        "Call super().__init__ first, or set requires_blocks to False.",
    )


def _refuses_unknown_options(subject: AdapterSubject) -> None:
    try:
        subject.adapter_class.Options.model_validate({"no_such_option": 1})
    except pydantic.ValidationError:
        return
    fail("it accepts an option that it does not have", "Derive Options from AdapterOptions.")


def _documents_its_size(subject: AdapterSubject) -> None:
    documentation = subject.adapter_class.__doc__ or ""
    paragraphs = [" ".join(part.split()) for part in documentation.split("\n\n")]
    stated = [part for part in paragraphs if _PARAMETERS.match(part)]
    size = subject.count_parameters(vit_b16())
    line = f"`Parameters of an episode: ...; {size:,} for ViT-B/16.`"
    advice = f"Add one paragraph to the documentation of the class: {line}"
    require(len(stated) == 1, f"{len(stated)} paragraphs say the number of its parameters", advice)
    numbers = re.findall(r"\d[\d,]*\d|\d", stated[0])
    require(
        f"{size:,}" in numbers and ("ViT-B/16" in stated[0] or size == 0),
        f"{stated[0]!r} does not say {size:,} for ViT-B/16 and clips of 8 frames",
        advice,
    )


def _fits(subject: AdapterSubject, tower: Tower, preset: str) -> bool:
    try:
        return subject.count_parameters(tower, preset=preset) > 0
    except AdapterError:
        return False


def _has_presets_that_fit(subject: AdapterSubject) -> None:
    for name, preset in subject.adapter_class.presets.items():
        require(
            len(preset.source) > 20,
            f"the source of the preset {name} is {preset.source!r}",
            "Name the publication, the setting, and where the values are written.",
        )
        require(
            any(_fits(subject, tower, name) for tower in (vit_b16(), vit_l14())),
            f"the preset {name} fits neither ViT-B/16 nor ViT-L/14",
            "Correct its options.",
        )


def _draws_from_its_seeds(subject: AdapterSubject) -> None:
    state = torch.get_rng_state()
    first, changed, repeated = (subject.build(seed).adapter for seed in (11, 12, 11))
    require(
        torch.equal(torch.get_rng_state(), state),
        "building it takes numbers from the global random state of torch",
        "Draw every initial value from self.generators, one generator per episode.",
    )
    for (name, values), same in zip(first.named_parameters(), repeated.parameters(), strict=True):
        require(
            torch.equal(values, same),
            f"the parameter {name} starts at other values with the same seed",
            "Draw every initial value from self.generators, one generator per episode.",
        )
    untouched = torch.Generator().manual_seed(11).get_state()
    if torch.equal(first.generators[0].get_state(), untouched):
        return
    tensors = ([*adapter.parameters(), *adapter.buffers()] for adapter in (first, changed))
    pairs = zip(*tensors, strict=True)
    require(
        any(not torch.equal(values, others) for values, others in pairs),
        "it draws from self.generators, and starts at the same values for another seed",
        "Use the values that are drawn.",
    )


ADAPTER_BUILDING_CHECKS: tuple[Check[AdapterSubject], ...] = (
    Check("it says what it is", _describes_itself),
    Check("it can be built on an encoder", _can_be_built, essential=True),
    Check("every parameter has the episode axis first", _has_an_episode_axis, essential=True),
    Check("what is trained is a parameter of the module", _registers_its_parameters),
    # training copies that share their memory can crash the process
    Check("copies share no parameters", _copies_share_nothing, essential=True),
    Check("its start follows from its seed alone", _draws_from_its_seeds),
    Check("it needs a seed per episode", _needs_seeds),
    Check("it refuses an encoder that it cannot adapt", _refuses_a_tower_without_blocks),
    Check("it refuses options that it does not have", _refuses_unknown_options),
    Check("its documentation says how many parameters it has", _documents_its_size),
    Check("its presets fit an encoder and say where they are from", _has_presets_that_fit),
)
