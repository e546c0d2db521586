"""Train the small CLIP model that ships as the `demo` encoder.

It sees single frames of generated clips with captions about what they show: shape, texture,
colour, size, place and background. It is told nothing about motion. Writes into --out:

* `demo.json`: the model configuration and the constants that images are normalised with, in the
  form of open_clip's own `open_clip_config.json`,
* `demo.safetensors`: the weights of both towers in half precision,
* `training_log.json`: settings, loss curve, and zero-shot accuracy on frames not trained on.

The same seed gives the same weights on the same machine with the same number of threads.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import open_clip
import torch
from _demo_material import (
    OPENINGS,
    SHORT,
    VOCABULARY,
    Stills,
    caption,
    render_stills,
    short_caption,
    turn,
)
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from fewshot_i2v.data.synthetic import generate

CONFIG: dict[str, dict[str, Any]] = {
    "model_cfg": {
        "embed_dim": 128,
        "quick_gelu": False,
        "vision_cfg": {
            "image_size": 64, "patch_size": 16, "width": 128, "layers": 6, "head_width": 32,
        },
        "text_cfg": {
            "context_length": 32, "vocab_size": 49408, "width": 64, "heads": 2, "layers": 2,
        },
    },
    "preprocess_cfg": {"size": [64, 64], "mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
}  # fmt: skip
PROMPTS = {
    "shape": "a photo of a {}",
    "colour": "a photo of a {} object",
    "texture": "a photo of a {} object",
    "position": "a photo of an object at the {}",
    "size": "a photo of a {} object",
    "background": "a photo of an object on a {} background",
}
_TRAIN, _HELD_OUT = 7_000_000, 8_000_000  # seeds of the generators, far from those of episodes
_DEFAULT_OUT = Path(__file__).resolve().parents[1] / "fewshot_i2v" / "models" / "encoders" / "demo"


class Words:
    """Captions to token ids, with open_clip's tokenizer.

    Its tokens never cross the space between two words, so each word is looked up only once.
    """

    def __init__(self) -> None:
        self._length = CONFIG["model_cfg"]["text_cfg"]["context_length"]
        self._tokenizer = open_clip.SimpleTokenizer(context_length=self._length)
        self._known: dict[str, list[int]] = {}

    def ids(self, text: str) -> list[int]:
        """Ids of one caption with its start and end, filled up with 0."""
        out = [self._tokenizer.sot_token_id]
        for word in text.split():
            if word not in self._known:
                self._known[word] = self._tokenizer.encode(word)
            out += self._known[word]
        out = [*out[: self._length - 1], self._tokenizer.eot_token_id]
        return out + [0] * (self._length - len(out))


@dataclass(frozen=True)
class Captions:
    """One caption for each of B frames: the U different ones as ids (U, L), and which is whose."""

    ids: Tensor
    whose: Tensor

    @classmethod
    def of(cls, texts: list[str], words: Words) -> Captions:
        """Each text is looked at once, however many frames it belongs to."""
        different = {text: i for i, text in enumerate(dict.fromkeys(texts))}
        ids = torch.tensor([words.ids(text) for text in different])
        return cls(ids, torch.tensor([different[text] for text in texts]))


def batches(
    stills: Stills, words: Words, batch: int, seed: int
) -> Iterator[tuple[NDArray[np.uint8], list[Captions]]]:
    """Endless batches: turned frames (B, S, S, 3) with a long and two kinds of short captions."""
    rng = np.random.default_rng([seed, 1])
    order, at, count = rng.permutation(len(stills.frames)), 0, len(stills.frames)
    while True:
        if at + batch > count:
            order, at = rng.permutation(count), 0
        chosen, at = order[at : at + batch], at + batch
        kinds = np.sort(rng.integers(8, size=len(chosen)))
        frames = np.empty_like(stills.frames[chosen])
        for kind in range(8):
            frames[kinds == kind] = turn(stills.frames[chosen[kinds == kind]], kind)
        shown = [(stills.objects[i], int(k)) for i, k in zip(chosen, kinds, strict=True)]
        texts = [[caption(objects, k, rng) for objects, k in shown]]
        for about in rng.choice(list(SHORT), size=2, replace=False, p=list(SHORT.values())):
            opening = str(rng.choice(OPENINGS))
            texts.append([short_caption(objects, k, about, opening) for objects, k in shown])
        yield frames, [Captions.of(some, words) for some in texts]


def as_input(frames: NDArray[np.uint8]) -> Tensor:
    """Frames (N, S, S, 3) uint8 to normalised images (N, 3, S, S) float32."""
    pixels = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 255
    mean, std = (
        torch.tensor(CONFIG["preprocess_cfg"][k]).view(1, 3, 1, 1) for k in ("mean", "std")
    )
    return ((pixels - mean) / std).contiguous()


def new_model(seed: int) -> open_clip.CLIP:
    """A model with random weights that depend on `seed` alone."""
    # open_clip draws its initial weights from torch's global generator: seed it, then put it back
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return open_clip.CLIP(**CONFIG["model_cfg"])


def _optimizers(model: open_clip.CLIP) -> tuple[torch.optim.Optimizer, ...]:
    """Muon for the matrices of the blocks, AdamW for the rest.

    With AdamW alone this model needs several times as many steps to see shapes.
    """
    parts: dict[str, list[torch.nn.Parameter]] = {"matrix": [], "decay": [], "rest": []}
    for name, p in model.named_parameters():
        if "resblocks" in name and p.ndim == 2:
            parts["matrix"].append(p)
        else:
            # the unused rows of an embedding would fade away
            decays = p.ndim >= 2 and "embedding" not in name
            parts["decay" if decays else "rest"].append(p)
    groups = [
        {"params": parts["decay"], "weight_decay": 0.05},
        {"params": parts["rest"], "weight_decay": 0.0},
    ]
    muon = torch.optim.Muon(parts["matrix"], lr=0.02, weight_decay=0.02)
    return muon, torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.98), eps=1e-6)


def _schedule(optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """A short linear rise, then half a cosine down to 0."""
    warm = max(1, min(100, steps // 10))

    def factor(step: int) -> float:
        return min((step + 1) / warm, 0.5 * (1 + math.cos(math.pi * min(1.0, step / steps))))

    return torch.optim.lr_scheduler.LambdaLR(optimizer, factor)


def batch_loss(model: open_clip.CLIP, frames: NDArray[np.uint8], texts: list[Captions]) -> Tensor:
    """Mean contrastive loss of the frames against each of their captions."""
    # the fused attention is several times slower backwards in this precision than the plain one
    with torch.autocast("cpu", torch.bfloat16), sdpa_kernel(SDPBackend.MATH):
        image = model.encode_image(as_input(frames), normalize=True).float()
        features = [model.encode_text(t.ids, normalize=True).float()[t.whose] for t in texts]
    loss_of, scale = open_clip.ClipLoss(), model.logit_scale.exp()
    return torch.stack([loss_of(image, text, scale) for text in features]).mean()


def train(
    model: open_clip.CLIP, stills: Stills, words: Words, steps: int, batch: int, seed: int
) -> list[tuple[int, float]]:
    """Train both towers; returns the loss curve, (step, mean since the last entry)."""
    optimizers = _optimizers(model)
    schedules = [_schedule(optimizer, steps) for optimizer in optimizers]
    source = batches(stills, words, batch, seed)
    curve: list[tuple[int, float]] = []
    recent: list[float] = []
    model.train()
    for step in range(1, steps + 1):
        loss = batch_loss(model, *next(source))
        model.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, schedule in zip(optimizers, schedules, strict=True):
            optimizer.step()
            schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        recent.append(loss.item())
        if step % 50 == 0 or step == steps:
            curve.append((step, round(sum(recent) / len(recent), 4)))
            click.echo(f"step {step}/{steps}  loss {curve[-1][1]:.3f}")
            recent.clear()
    return curve


@torch.no_grad()
def zero_shot(model: open_clip.CLIP, stills: Stills, words: Words) -> dict[str, dict[str, float]]:
    """Share of frames with one object whose true word fits best among all words of its kind.

    Returns:
        For each attribute: accuracy, chance (one out of the number of words), and the share of
        the commonest word among these frames (what a constant answer would get).
    """
    model.eval()
    alone = [i for i, objects in enumerate(stills.objects) if len(objects) == 1]
    parts = (stills.frames[alone[at : at + 500]] for at in range(0, len(alone), 500))
    images = torch.cat([model.encode_image(as_input(part), normalize=True) for part in parts])
    out = {}
    for kind, prompt in PROMPTS.items():
        names = VOCABULARY[kind]
        ids = torch.tensor([words.ids(prompt.format(name)) for name in names])
        texts = model.encode_text(ids, normalize=True)
        guess = (images @ texts.T).argmax(1)
        truth = torch.tensor([names.index(getattr(stills.objects[i][0], kind)) for i in alone])
        commonest = torch.bincount(truth).max().item() / len(alone)
        out[kind] = {
            "accuracy": round((guess == truth).double().mean().item(), 4),
            "chance": round(1 / len(names), 4),
            "commonest": round(commonest, 4),
        }
    return out


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def save(model: open_clip.CLIP, path: Path, facts: dict[str, str]) -> None:
    """Write the weights in half precision, whole or not at all."""
    state = {k: v.detach().half().contiguous() for k, v in model.state_dict().items()}
    temporary = path.with_suffix(".tmp")
    save_file(state, temporary, metadata=facts)
    temporary.chmod(0o644)
    temporary.replace(path)


def reload(weights: Path) -> open_clip.CLIP:
    """A fresh model with the weights of a file; every key must fit."""
    model = new_model(seed=0)
    model.load_state_dict({k: v.float() for k, v in load_file(weights).items()}, strict=True)
    return model


def finish(
    out: Path,
    model: open_clip.CLIP,
    unseen: Stills,
    settings: dict[str, int],
    log: Mapping[str, Any],
) -> None:
    """Write everything into `out`, and test the model as trained and as read back from there."""
    out.mkdir(parents=True, exist_ok=True)
    config = out / "demo.json"
    _write_json(config, CONFIG)
    facts = {k: str(v) for k, v in settings.items()}
    facts["config_sha256"] = hashlib.sha256(config.read_bytes()).hexdigest()
    save(model, out / "demo.safetensors", facts)
    words = Words()
    as_trained = zero_shot(model, unseen, words)
    from_file = zero_shot(reload(out / "demo.safetensors"), unseen, words)
    for kind, row in from_file.items():
        click.echo(f"{kind:11s} accuracy {row['accuracy']:.3f}  chance {row['chance']:.3f}")
    parameters = {
        "vision": sum(p.numel() for p in model.visual.parameters()),
        "all": sum(p.numel() for p in model.parameters()),
    }
    versions = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "open_clip": open_clip.__version__,
        "numpy": np.__version__,
    }
    head = {"settings": settings, "parameters": parameters, "versions": versions}
    tail = {
        "zero_shot_prompts": PROMPTS,
        "zero_shot_as_trained": as_trained,
        "zero_shot_from_file": from_file,
    }
    _write_json(out / "training_log.json", {**head, **log, **tail})


@click.command(context_settings={"show_default": True})
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=_DEFAULT_OUT,
    show_default="the folder of the shipped encoder",
    help="Where to write.",
)
@click.option("--steps", type=click.IntRange(1), default=2400, help="Batches to train on.")
@click.option("--batch", type=click.IntRange(2), default=256, help="Frames per batch.")
@click.option("--stills", "count", type=click.IntRange(2), default=40000, help="Frames to render.")
@click.option("--held-out", type=click.IntRange(1), default=4000, help="Frames to test on.")
@click.option("--seed", type=click.IntRange(0), default=0, help="Of weights, frames and order.")
@click.option("--threads", type=click.IntRange(1), default=2, help="Threads, and renderers.")
def main(
    out: Path, steps: int, batch: int, count: int, held_out: int, seed: int, threads: int
) -> None:
    """Train the small CLIP model that ships as the `demo` encoder."""
    torch.set_num_threads(threads)
    settings = {"steps": steps, "batch": batch, "stills": count, "held_out": held_out}
    settings |= {"seed": seed, "threads": threads, "generator_version": generate.VERSION}
    workers = threads if count > 1000 else 0
    started = time.monotonic()
    stills = render_stills(count, _TRAIN + seed, workers)
    unseen = render_stills(held_out, _HELD_OUT + seed, workers)
    rendered = time.monotonic()
    click.echo(f"rendered {count} + {held_out} frames in {rendered - started:.0f} s")
    model = new_model(seed)
    curve = train(model, stills, Words(), steps, batch, seed)
    seconds = {"render": round(rendered - started), "train": round(time.monotonic() - rendered)}
    finish(out, model, unseen, settings, {"seconds": seconds, "loss": curve})


if __name__ == "__main__":
    main()
