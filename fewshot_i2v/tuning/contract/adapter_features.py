"""Checks of the features that an adapter computes."""

from __future__ import annotations

from dataclasses import replace

import torch

from fewshot_i2v.errors import AdapterError
from fewshot_i2v.models.adapters.base.adapted_encoder import AdaptedEncoder
from fewshot_i2v.models.adapters.base.adapter import Adapter
from fewshot_i2v.tuning.contract.adapter_subject import (
    CELLS,
    CLIPS,
    AdapterSubject,
    require_same_features,
    run_encoder,
    shared_pixels,
    shared_tower,
)
from fewshot_i2v.tuning.contract.check import Check, fail, require, require_close
from fewshot_i2v.tuning.contract.tiny_encoder import FRAMES, make_clips

_CLASS_ADVICE = (
    "Leave class_token_block out, or let it return block(i, frozen, x)[..., :1, :] without what "
    "does not reach the class token."
)
_AXES_ADVICE = "Compute with tokens (E, clips, T, N + 1, D) and keep these axes in this order."


def _has_shapes_and_types(subject: AdapterSubject) -> None:
    features = run_encoder(subject.build(1, 2, 3), shared_pixels())
    width = shared_tower().width
    for kind, tensor, expected in (
        ("frame", features.frames, (3, CLIPS, FRAMES, width)),
        ("clip", features.clip, (3, CLIPS, width)),
    ):
        require(
            tuple(tensor.shape) == expected,
            f"{kind} features have the shape {tuple(tensor.shape)}; expected {expected}: episodes, "
            f"clips, {'frames, ' * (kind == 'frame')}channels",
            "block must return tokens of the shape that it gets, (E, clips, T, N + 1, D).",
        )
        require(
            tensor.dtype == torch.float32,
            f"{kind} features are {tensor.dtype}; expected torch.float32",
            "Leave the type of tokens as it is, and do not override pool_frames with another.",
        )
        require(
            bool(tensor.isfinite().all()),
            f"{kind} features of random clips are not finite",
            "Look for a division by zero, a logarithm or a root.",
        )


def _block_keeps_shape_and_type(subject: AdapterSubject) -> None:
    tower, adapter = shared_tower(), subject.build(1, 2, moved=True).adapter
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(2, CLIPS, FRAMES, tower.grid**2 + 1, tower.width, generator=generator)
    for i in range(max(adapter.first_trained_block, 0), tower.layers):
        before = tokens.clone()
        result = adapter.block(i, tower.blocks[i], tokens)
        require(
            result.shape == tokens.shape,
            f"block {i} returns the shape {tuple(result.shape)} for tokens {tuple(tokens.shape)}",
            "Return tokens of the same shape, (E, clips, T, N + 1, D).",
        )
        require(
            result.dtype == tokens.dtype,
            f"block {i} returns {result.dtype} for tokens of {tokens.dtype}",
            "Return tokens of the same type: result.to(x.dtype).",
        )
        require(
            torch.equal(tokens, before),
            f"block {i} changes the tokens that it gets",
            "Do not write into x: no x[...] = and no method that ends in _; make a new tensor.",
        )


def _computes_the_class_token_alone(subject: AdapterSubject) -> None:
    tower, adapter = shared_tower(), subject.build(1, 2, moved=True).adapter
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randn(2, CLIPS, FRAMES, tower.grid**2 + 1, tower.width, generator=generator)
    for i in range(max(adapter.first_trained_block, 0), tower.layers):
        before = tokens.clone()
        class_token = adapter.class_token_block(i, tower.blocks[i], tokens)
        expected = adapter.block(i, tower.blocks[i], tokens)[..., :1, :]
        require(
            class_token.shape == expected.shape,
            f"class_token_block {i} returns the shape {tuple(class_token.shape)}; expected "
            f"{tuple(expected.shape)}",
            _CLASS_ADVICE,
        )
        problem = f"class_token_block {i} gives another class token than block"
        require_close(class_token, expected, problem, _CLASS_ADVICE, limit=1e-5)
        require(
            torch.equal(tokens, before),
            f"class_token_block {i} changes the tokens that it gets",
            _CLASS_ADVICE,
        )


def _is_the_frozen_encoder_at_its_start(subject: AdapterSubject) -> None:
    """For static clips, where an adapter does not claim it for all.

    A `pool_frames` of its own makes another clip feature of the same frames: not compared.
    """
    pixels = shared_pixels()
    encoder = subject.build(3, 4)
    claims_it = encoder.adapter.identity_at_init
    if not claims_it:
        pixels = pixels[:, :1].expand(-1, FRAMES, -1, -1, -1)
    frames = shared_tower().encode(pixels)
    features = run_encoder(encoder, pixels)
    stated = "identity_at_init is True" if claims_it else "the frames of the clip are all the same"
    problem = f"untrained, it changes the features, although {stated}"
    advice = "Start with a last layer of zeros, so that the adapter adds nothing"
    advice += ", or set identity_at_init = False." if claims_it else "."
    for episode in range(2):
        require_close(features.frames[episode], frames, problem, advice, limit=2e-6)
        if type(encoder.adapter).pool_frames is Adapter.pool_frames:
            require_close(features.clip[episode], frames.mean(1), problem, advice, limit=2e-6)


def _gives_grids(subject: AdapterSubject) -> None:
    encoder = subject.build(1, 2, moved=True)
    plain = run_encoder(encoder, shared_pixels())
    gridded = run_encoder(encoder, shared_pixels(), cells=2)
    expected = (2, CLIPS, FRAMES, 4, shared_tower().width)
    shape = tuple(gridded.grids[2].shape)
    require(shape == expected, f"a grid has the shape {shape}; expected {expected}", _AXES_ADVICE)
    require_same_features(
        replace(gridded, grids={}), plain, "features change when a head reads a grid", _AXES_ADVICE
    )
    side = shared_tower().grid
    cells = run_encoder(encoder, shared_pixels(), cells=CELLS).grids[CELLS]
    normless = subject.build(1, 2, moved=True)
    vars(normless.adapter)["final_norm"] = lambda _tower, x: x
    tokens = run_encoder(normless, shared_pixels(), cells=side).grids[side]
    patches = tokens.reshape(*tokens.shape[:-2], side, side, -1)
    # three cells on a side of four patches: neighbours share the patches between them
    shares = [slice(0, 2), slice(1, 3), slice(2, 4)]
    means = [patches[..., rows, columns, :].mean((-3, -2)) for rows in shares for columns in shares]
    norm = encoder.adapter.final_norm(shared_tower(), torch.stack(means, -2))
    require_close(
        cells, norm, "a cell is not the final norm of the mean of its patches", _AXES_ADVICE
    )


def _leaves_global_random_state(subject: AdapterSubject) -> None:
    state = torch.get_rng_state()
    run_encoder(subject.build(1, 2), shared_pixels())
    require(
        torch.equal(torch.get_rng_state(), state),
        "computing features takes numbers from the global random state of torch",
        "Use no dropout and no torch.rand in block; an adapter computes the same each time.",
    )


def _keeps_clips_apart(subject: AdapterSubject) -> None:
    encoder = subject.build(1, 2, moved=True)
    both = run_encoder(encoder, shared_pixels(), cells=CELLS)
    problem = "the features of a clip depend on the clips beside it"
    advice = f"Mix no values over the axis of clips, also not in a norm or a mean. {_AXES_ADVICE}"
    for clip in range(CLIPS):
        alone = run_encoder(encoder, shared_pixels()[clip : clip + 1], cells=CELLS)
        single = both.map(lambda part, clip=clip: part[:, clip, None])  # type: ignore[misc]
        require_same_features(alone, single, problem, advice)
    swapped = run_encoder(encoder, shared_pixels().flip(0), cells=CELLS)
    require_same_features(swapped, both.map(lambda part: part.flip(1)), problem, advice)


def _refuses_another_number_of_episodes(subject: AdapterSubject) -> None:
    encoder = subject.build(1, 2)
    spec = encoder.adapter.prefix_spec()
    if not subject.is_trained or (spec.is_fully_frozen(shared_tower()) and not spec.levels):
        return  # the axis is checked where its own layers begin
    prefix = encoder.compute_prefix(shared_pixels())
    try:
        encoder(prefix[None])
    except AdapterError:
        return
    fail("tokens of 1 episode are accepted by 2 copies", "Do not broadcast over the first axis.")


def _is_near_float32_in_bfloat16(subject: AdapterSubject) -> None:
    exact = subject.build(1, moved=True)
    half = AdaptedEncoder(shared_tower().to("cpu", torch.bfloat16), exact.adapter)
    expected = run_encoder(exact, shared_pixels(), cells=CELLS)
    features = run_encoder(half, shared_pixels().bfloat16(), cells=CELLS)
    advice = (
        "Compute in the type of the tokens: cast parameters with .to(x.dtype), as the layers of "
        "fewshot_i2v.models.adapters.layers do."
    )
    for actual, wanted in (
        (features.frames, expected.frames),
        (features.clip, expected.clip),
        (features.grids[CELLS], expected.grids[CELLS]),
    ):
        require(
            actual.dtype == torch.float32,
            f"with --precision bf16 features are {actual.dtype}; expected torch.float32",
            "Leave final_norm and pool_frames in float32.",
        )
        require(
            bool((actual - wanted).norm() < 3e-2 * wanted.norm()),
            "with --precision bf16 features differ by more than 3 %",
            advice,
        )
    if subject.is_trained:
        torch.autograd.backward(features.clip.square().sum())
        for name, parameter in exact.adapter.named_parameters():
            finite = parameter.grad is None or bool(parameter.grad.isfinite().all())
            require(
                parameter.dtype == torch.float32 and finite,
                f"with --precision bf16 the parameter {name} is {parameter.dtype}, or its gradient "
                "is not finite",
                advice,
            )


def _fits_numbers_of_frames(subject: AdapterSubject) -> None:
    for frames in (1, 3, 6):
        encoder = subject.build(1, moved=True, frames=frames)
        features = run_encoder(encoder, make_clips(encoder.tower, 2, frames=frames))
        require(
            features.frames.shape[2] == frames and bool(features.clip.isfinite().all()),
            f"clips of {frames} frames give features {tuple(features.frames.shape)}, or values "
            "that are not finite",
            "Take the number of frames from self.frames, and let one frame be enough.",
        )


BLOCK_CHECK = Check(
    "block returns new tokens of the same shape and type",
    _block_keeps_shape_and_type,
    essential=True,
)
ADAPTER_FEATURE_CHECKS: tuple[Check[AdapterSubject], ...] = (
    Check("features have the right shape and type", _has_shapes_and_types, essential=True),
    Check("untrained, it is the frozen encoder", _is_the_frozen_encoder_at_its_start),
    Check("the class token alone is that of all tokens", _computes_the_class_token_alone),
    Check("clips do not change each other", _keeps_clips_apart),
    Check("heads can read patch tokens", _gives_grids),
    Check("nothing is random when features are computed", _leaves_global_random_state),
    Check("clips may have any number of frames", _fits_numbers_of_frames),
    Check("tokens of another number of episodes are refused", _refuses_another_number_of_episodes),
    Check("--precision bf16 gives nearly the same", _is_near_float32_in_bfloat16),
)
