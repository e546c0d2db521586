"""The text tower of an encoder is exactly that of its weights, or an error that says why not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip import factory, pretrained
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

from fewshot_i2v import registry
from fewshot_i2v.data.synthetic import generate
from fewshot_i2v.errors import EncoderError, UnknownNameError
from fewshot_i2v.models.encoders import loading, text_tower
from fewshot_i2v.models.encoders.architectures import open_clip_architecture
from fewshot_i2v.models.encoders.loading import load_encoder
from fewshot_i2v.models.encoders.text_tower import TextTower, load_text_tower, template_problem

TEXT: dict[str, Any] = {
    "context_length": 16,
    "vocab_size": 49408,
    "width": 8,
    "heads": 2,
    "layers": 2,
}
NAMES = ("waving_hand", "Running", "sitting down")
TEMPLATES = ("a video of {}.", "{}", "someone {} slowly")
Configuration = Callable[..., Path]
State = dict[str, Tensor]


@pytest.fixture
def architecture(configuration: Configuration) -> Path:
    return configuration("tiny", top={"text_cfg": TEXT})


@pytest.fixture
def model(architecture: Path) -> nn.Module:
    """A whole tiny CLIP model with drawn weights."""
    return make_model(architecture)


@pytest.fixture
def checkpoint(model: nn.Module, tmp_path: Path) -> Path:
    return saved(model.state_dict(), tmp_path)


def make_model(architecture: Path, *, quick_gelu: bool = False) -> nn.Module:
    config = json.loads(architecture.read_text(encoding="utf-8")) | {"quick_gelu": quick_gelu}
    custom = config.pop("custom_text", False)
    with torch.random.fork_rng(devices=[]):
        made: nn.Module = (open_clip.CustomTextCLIP if custom else open_clip.CLIP)(**config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in made.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            centre = 0.7 if parameter.ndim == 1 else 0.0
            parameter.copy_(centre + 0.3 * noise)
        made.logit_scale.fill_(3.0)
    return made


def saved(state: State, folder: Path, name: str = "tiny.safetensors") -> Path:
    path = folder / name
    save_file({key: value.contiguous() for key, value in state.items()}, path)
    return path


def embedded(model: open_clip.CLIP, names: tuple[str, ...], templates: tuple[str, ...]) -> Tensor:
    """Class embeddings by open_clip's own encode_text and tokenizer."""
    tokenizer = open_clip.SimpleTokenizer(context_length=TEXT["context_length"])
    rows = []
    for name in names:
        texts = [template.format(name.replace("_", " ")) for template in templates]
        with torch.no_grad():
            each = model.encode_text(tokenizer(texts), normalize=True)
        rows.append(functional.normalize(each.mean(0), dim=-1))
    return torch.stack(rows)


@pytest.mark.parametrize("quick_gelu", [False, True])
@pytest.mark.parametrize("custom", [False, True])
def test_it_embeds_as_open_clip_does(
    configuration: Configuration, tmp_path: Path, *, quick_gelu: bool, custom: bool
) -> None:
    top = {"text_cfg": TEXT, "quick_gelu": quick_gelu, "custom_text": custom}
    path = configuration("tiny", top=top)
    model = make_model(path, quick_gelu=quick_gelu)
    state = torch.random.get_rng_state()
    file = saved(model.state_dict(), tmp_path)
    tower = load_text_tower("mine", pretrained=file, architecture=path)
    found = tower.embed_names(NAMES, TEMPLATES)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.testing.assert_close(found, embedded(model, NAMES, TEMPLATES), atol=1e-6, rtol=1e-5)
    assert (found.shape, found.dtype, found.device.type) == ((3, 24), torch.float32, "cpu")
    assert not found.requires_grad
    torch.testing.assert_close(found.norm(dim=-1), torch.ones(3))
    assert tower.scale == pytest.approx(np.exp(3.0))
    assert tower.context_length == 16


def test_a_name_is_embedded_alike_whatever_stands_beside_it(
    architecture: Path, checkpoint: Path
) -> None:
    tower = load_text_tower("x", pretrained=checkpoint, architecture=architecture)
    together = tower.embed_names(NAMES, TEMPLATES)
    alone = [tower.embed_names([name], TEMPLATES)[0] for name in NAMES]
    assert torch.equal(together, torch.stack(alone))
    spoken = tower.embed_names(["waving hand"], TEMPLATES)[0]
    assert torch.equal(spoken, together[0])


def test_a_class_of_many_prompts_is_embedded_in_parts(
    model: open_clip.CLIP, architecture: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tower = load_text_tower("x", pretrained=checkpoint, architecture=architecture)
    prompts = ["A_hand waves.", "It runs", "Sitting down, slowly", "up", "down"]
    sizes: list[int] = []
    handle = tower._model.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    together = tower.embed_prompts(prompts)
    monkeypatch.setattr(text_tower, "_BATCH", 2)
    torch.testing.assert_close(tower.embed_prompts(prompts), together, atol=1e-6, rtol=1e-5)
    handle.remove()
    assert sizes == [5, 2, 2, 1]
    tokens = open_clip.SimpleTokenizer(context_length=TEXT["context_length"])(prompts)
    with torch.no_grad():
        mean = model.encode_text(tokens, normalize=True).mean(0)
    torch.testing.assert_close(together, functional.normalize(mean, dim=-1), atol=1e-6, rtol=1e-5)
    assert [tower.count_tokens(prompt) for prompt in prompts[-2:]] == [1, 1]


def test_the_tokenizer_is_read_once_and_remembers_no_text(
    architecture: Path, checkpoint: Path, model: nn.Module
) -> None:
    first, second = (
        load_text_tower("x", pretrained=checkpoint, architecture=architecture) for _ in range(2)
    )
    first.embed_names(["other words"], TEMPLATES)
    assert first._tokenize == second._tokenize  # of the same object
    found = second.embed_names(NAMES, TEMPLATES)
    torch.testing.assert_close(found, embedded(model, NAMES, TEMPLATES), atol=1e-6, rtol=1e-5)


def test_other_forms_of_the_same_weights_give_the_same_tower(
    architecture: Path, checkpoint: Path, model: nn.Module, tmp_path: Path
) -> None:
    state = model.state_dict()
    openai = {"input_resolution": torch.tensor(32), "context_length": torch.tensor(16)}
    forms = {
        "plain.pt": state,
        "nested.pt": {"state_dict": {f"module.{name}": value for name, value in state.items()}},
        "sizes.pt": state | openai,
        "listed.pt": state | {"logit_scale": state["logit_scale"].reshape(1)},
    }
    towers = [load_text_tower("x", pretrained=checkpoint, architecture=architecture)]
    for name, form in forms.items():
        torch.save(form, tmp_path / name)
        towers.append(load_text_tower("x", pretrained=tmp_path / name, architecture=architecture))
    assert len({tower.digest for tower in towers}) == 1
    assert {tower.scale for tower in towers} == {towers[0].scale}


def test_half_precision_becomes_float32(
    architecture: Path, model: nn.Module, tmp_path: Path
) -> None:
    file = saved(model.half().state_dict(), tmp_path)
    tower = load_text_tower("x", pretrained=file, architecture=architecture)
    expected = embedded(model.float(), NAMES, TEMPLATES)
    torch.testing.assert_close(tower.embed_names(NAMES, TEMPLATES), expected, atol=1e-5, rtol=1e-5)


def test_the_digest_sees_weights_scale_and_what_decides_besides(
    configuration: Configuration, architecture: Path, model: nn.Module, tmp_path: Path
) -> None:
    state = model.state_dict()
    shorter = state["positional_embedding"][:8]
    cases: list[tuple[Path, State]] = [
        (architecture, state),
        (architecture, state | {"text_projection": state["text_projection"] + 1e-6}),
        (architecture, state | {"logit_scale": state["logit_scale"] + 1e-3}),
        (configuration("quick", top={"text_cfg": TEXT, "quick_gelu": True}), state),
        (configuration("heads", top={"text_cfg": TEXT | {"heads": 4}}), state),
        (configuration("both", top={"text_cfg": TEXT | {"no_causal_mask": True}}), state),
        (
            configuration("short", top={"text_cfg": TEXT | {"context_length": 8}}),
            state | {"positional_embedding": shorter},
        ),
    ]
    digests = []
    for config, form in cases:
        file = saved(form, tmp_path)
        digests.append(load_text_tower("x", pretrained=file, architecture=config).digest)
    assert len(set(digests)) == len(cases)
    assert all(len(digest) == 64 for digest in digests)
    other_image = saved(state | {"visual.proj": state["visual.proj"] + 1}, tmp_path)
    spelled = configuration("spelled", top={"text_cfg": TEXT | {"pool_type": "argmax"}})
    same = load_text_tower("x", pretrained=other_image, architecture=spelled)
    assert same.digest == digests[0]


def test_a_text_longer_than_the_tower_reads_is_refused_and_not_cut(
    architecture: Path, checkpoint: Path
) -> None:
    tower = load_text_tower("x", pretrained=checkpoint, architecture=architecture)
    fits = " ".join(["red"] * 14)
    assert tower.embed_names([fits], ["{}"]).isfinite().all()
    with pytest.raises(EncoderError, match=r"red red .* has 15 tokens; .* at most 14\. Shorten"):
        tower.embed_names(["fine", fits], ["{} red"])


def test_a_template_has_exactly_one_place(architecture: Path, checkpoint: Path) -> None:
    tower = load_text_tower("x", pretrained=checkpoint, architecture=architecture)
    for template in ("none", "{} and {}", "{name}", "{0}", "{{}}", "{} {", "}{}"):
        with pytest.raises(EncoderError, match=r"expected exactly one \{\}"):
            tower.embed_names(NAMES, ["a {}", template])
        assert template_problem(template), template


@pytest.mark.parametrize(("names", "templates"), [((), TEMPLATES), (NAMES, ())])
def test_nothing_to_embed_is_refused(
    names: tuple[str, ...], templates: tuple[str, ...], architecture: Path, checkpoint: Path
) -> None:
    tower = load_text_tower("x", pretrained=checkpoint, architecture=architecture)
    with pytest.raises(EncoderError, match="at least one"):
        tower.embed_names(names, templates)


NO_TOWER = r"no text tower.*zero-shot, tip and text-prototype, need one: .*'demo' or a tag"


def test_encoders_without_a_text_tower_say_who_needs_one_and_what_to_do(
    configuration: Configuration,
    architecture: Path,
    checkpoint: Path,
    model: open_clip.CLIP,
    tmp_path: Path,
) -> None:
    with pytest.raises(EncoderError, match=rf"'mine' has {NO_TOWER}"):
        load_text_tower("mine", pretrained="random", architecture=architecture)
    with pytest.raises(EncoderError, match=rf"'ViT-B-32' has {NO_TOWER}"):
        load_text_tower("ViT-B-32", pretrained="random")
    visual_only = configuration("visual-only")
    with pytest.raises(EncoderError, match=r"'x' has .*'text_cfg' in .*visual-only.json"):
        load_text_tower("x", pretrained=checkpoint, architecture=visual_only)
    for name, state in (
        ("bare.safetensors", model.visual.state_dict()),
        ("prefixed.safetensors", {f"visual.{k}": v for k, v in model.visual.state_dict().items()}),
    ):
        file = saved(state, tmp_path, name)
        with pytest.raises(EncoderError, match=rf"{name} has {NO_TOWER}"):
            load_text_tower("x", pretrained=file, architecture=architecture)


def test_the_heads_that_the_error_names_exist_and_read_names() -> None:
    for name in ("zero-shot", "tip", "text-prototype"):
        assert registry.load_method("heads", name).uses_class_names
    for name in ("prototype", "linear"):
        assert not registry.load_method("heads", name).uses_class_names


def _without(state: State, name: str) -> State:
    return {key: value for key, value in state.items() if key != name}


SPOILED: dict[str, tuple[Callable[[State], State], str]] = {
    "missing": (lambda s: _without(s, "ln_final.bias"), r"does not fit .*ln_final\.bias"),
    "unexpected": (lambda s: s | {"extra": torch.zeros(2)}, r"does not fit .*extra"),
    "misshapen": (
        lambda s: s | {"text_projection": torch.zeros(8, 23)},
        r"does not fit .* text_projection: .*\[8, 23\]",
    ),
    "mixed": (
        lambda s: s | {"text.extra": torch.zeros(2)},
        r"does not fit .*text\.extra",
    ),
    "whole numbers": (
        lambda s: s | {"ln_final.bias": torch.zeros(8, dtype=torch.int64)},
        r"'ln_final\.bias' does not hold floating-point numbers",
    ),
    "damaged": (
        lambda s: s | {"ln_final.bias": torch.full((8,), torch.nan)},
        r"NaN or infinite values \(ln_final\.bias\)",
    ),
    "no scale": (lambda s: _without(s, "logit_scale"), "has no 'logit_scale'"),
    "two scales": (lambda s: s | {"logit_scale": torch.zeros(2)}, "one finite number"),
    "endless scale": (lambda s: s | {"logit_scale": torch.tensor(1e4)}, "one finite number"),
}


@pytest.mark.parametrize("how", SPOILED)
def test_weights_that_do_not_fit_are_refused(
    how: str, architecture: Path, model: nn.Module, tmp_path: Path
) -> None:
    spoil, message = SPOILED[how]
    file = saved(spoil(model.state_dict()), tmp_path)
    with pytest.raises(EncoderError, match=message) as caught:
        load_text_tower("x", pretrained=file, architecture=architecture)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"hf_tokenizer_name": "someone/model"}, EncoderError, "fetched by address"),
        ({"hf_model_name": "someone/model"}, EncoderError, "fetched by address"),
        ({"tokenizer_kwargs": {"clean": "canonicalize"}}, EncoderError, "tokenizer_kwargs="),
        ({"widht": 8}, UnknownNameError, "did you mean 'width'"),
        ({"heads": 3}, EncoderError, "cannot build this text tower"),
    ],
)
def test_configurations_that_cannot_be_used_are_refused(
    changes: dict[str, Any],
    error: type[Exception],
    message: str,
    configuration: Configuration,
    checkpoint: Path,
) -> None:
    path = configuration("other", top={"text_cfg": TEXT | changes})
    with pytest.raises(error, match=message):
        load_text_tower("x", pretrained=checkpoint, architecture=path)


def test_a_tower_of_another_tokenizer_is_refused(
    configuration: Configuration, tmp_path: Path
) -> None:
    path = configuration("other", top={"text_cfg": TEXT | {"vocab_size": 50}})
    file = saved(make_model(path).state_dict(), tmp_path)
    with pytest.raises(EncoderError, match="50 tokens and CLIP's tokenizer 49408"):
        load_text_tower("x", pretrained=file, architecture=path)
    not_an_object = configuration("list", top={"text_cfg": [1]})
    with pytest.raises(EncoderError, match="'text_cfg' is not an object"):
        load_text_tower("x", pretrained=file, architecture=not_an_object)


def test_models_of_open_clip_with_remote_tokenizers_are_refused_before_any_download() -> None:
    with pytest.raises(EncoderError, match="hf_tokenizer_name='timm/ViT-B-16-SigLIP'"):
        load_text_tower("ViT-B-16-SigLIP", pretrained="webli")


def test_weights_must_be_named(architecture: Path) -> None:
    with pytest.raises(EncoderError, match="'x' has no weights None: give `pretrained`"):
        load_text_tower("x", architecture=architecture)
    with pytest.raises(EncoderError, match="'ViT-B-32' has no weights None"):
        load_text_tower("ViT-B-32")
    with pytest.raises(EncoderError, match="'x' has no weights 'openai'"):
        load_text_tower("x", pretrained="openai", architecture=architecture)


@pytest.fixture
def tag(architecture: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes open_clip know the model "tiny" and tags for it whose file lies here."""
    monkeypatch.setattr(
        factory, "_MODEL_CONFIG_PATHS", [*factory._MODEL_CONFIG_PATHS, architecture]
    )
    monkeypatch.setattr(factory, "_MODEL_CONFIGS", dict(factory._MODEL_CONFIGS))
    open_clip.add_model_config(architecture)
    settings = {"file": str(checkpoint), "mean": (0.5,) * 3, "std": (0.5,) * 3}
    far = settings | {"hf_hub": "someone/something/"}
    del far["file"]
    tags = {"plain": settings, "quick": settings | {"quick_gelu": True}, "far": far}
    monkeypatch.setitem(pretrained._PRETRAINED, "tiny", tags)
    return checkpoint


def test_a_tag_gives_the_tower_of_its_file_with_its_activation(
    tag: Path, architecture: Path
) -> None:
    local = load_text_tower("tiny", pretrained=f"plain@{tag}")
    assert load_text_tower("tiny", pretrained="plain").digest == local.digest
    quick = load_text_tower("tiny", pretrained="quick")
    assert quick.digest != local.digest
    assert load_text_tower("tiny", pretrained=f"quick@{tag}").digest == quick.digest
    with pytest.raises(EncoderError, match="trained with GELU or QuickGELU"):
        load_text_tower("tiny", pretrained=tag)
    with torch.random.fork_rng(devices=[]):
        whole = open_clip.create_model("tiny", pretrained=str(tag), force_quick_gelu=True).eval()
    expected = embedded(whole, NAMES, TEMPLATES)
    torch.testing.assert_close(quick.embed_names(NAMES, TEMPLATES), expected, atol=1e-6, rtol=1e-5)
    with pytest.raises(UnknownNameError, match="tag for tiny 'plian'; did you mean 'plain'"):
        load_text_tower("tiny", pretrained="plian")


def test_a_tag_that_cannot_be_had_says_what_to_do(
    tag: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*args: object, **options: object) -> str:
        raise FileNotFoundError("no network")

    monkeypatch.setattr(factory, "download_pretrained", offline)
    with pytest.raises(EncoderError, match=r"'far' of tiny \(someone/something/\) .*no network"):
        load_text_tower("tiny", pretrained="far")


def test_loading_a_tag_leaves_the_global_generator_alone(tag: Path) -> None:
    state = torch.random.get_rng_state()
    whole, settings = loading.load_pretrained_clip(open_clip_architecture("tiny"), "plain")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not whole.training
    assert settings["mean"] == (0.5,) * 3


@pytest.fixture(scope="module")
def demo() -> TextTower:
    return load_text_tower()


def test_the_demo_names_what_its_pictures_show(demo: TextTower) -> None:
    encoder = load_encoder().tower
    names = ("circle", "square", "star", "cross")
    classes = [f"plain-{name}" for name in names]
    seeds = range(4)
    stills = [generate.render_clip("shapes", c, n, seed=5)[8] for c in classes for n in seeds]
    pixels = encoder.normalize(torch.from_numpy(np.stack(stills)))
    projection = encoder.projection
    assert projection is not None
    pictures = functional.normalize(encoder.encode(pixels) @ projection, dim=-1)
    similarity = (pictures @ demo.embed_names(names, ["a photo of a {}"]).T).view(4, len(seeds), 4)
    assert torch.equal(similarity.mean(1).argmax(-1), torch.arange(4))
    assert 1 < demo.scale <= 100
    assert demo.context_length == 32
