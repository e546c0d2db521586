"""All checks of heads: what they say, the logits they give, and how they are trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pydantic
import torch
from torch import Tensor

from fewshot_i2v.errors import HeadError
from fewshot_i2v.models.adapters.base.features import Features
from fewshot_i2v.models.factory import check_episode_axis
from fewshot_i2v.models.heads.base.head import Head, HeadOptions
from fewshot_i2v.tuning.contract.check import (
    Check,
    CheckResult,
    ContractError,
    fail,
    require,
    require_citations,
    require_close,
    run_checks,
)
from fewshot_i2v.tuning.contract.head_subject import (
    EPISODES,
    FRAMES,
    QUERIES,
    SEEDS,
    WAY,
    WIDTH,
    HeadSubject,
    copy_parameters,
    load_head_subject,
    make_class_texts,
    make_episode,
    make_features,
    option_variants,
    select_clips,
    select_episodes,
    summed_loss,
)

_EPISODES_ADVICE = "Let no sum, mean, norm or matrix product run over the first axis, the episodes."
_CLIPS_ADVICE = "Let the logits of a clip depend on its features, not on its position."
_NEW_TENSOR_ADVICE = "Do not write into the features and labels; make new tensors."


def _describes_itself(subject: HeadSubject) -> None:
    head_class, summary = subject.head_class, subject.summary
    require(
        10 <= len(summary) <= 90,
        f"the first line of the file has {len(summary)} characters: {summary!r}",
        "Begin the file with a docstring whose first line says in 10 to 90 characters what it is.",
    )
    require(
        len(head_class.source) > 20,
        f"source is {head_class.source!r}",
        "Name authors, title, year and address of the paper, or say whose it is.",
    )
    require_citations(head_class)
    require(
        issubclass(head_class.Options, HeadOptions),
        f"Options is {head_class.Options!r}",
        "Derive Options from HeadOptions.",
    )
    reads_templates = "templates" in head_class.Options.model_fields
    require(
        reads_templates == head_class.uses_class_names,
        f"uses_class_names is {head_class.uses_class_names}, and it has "
        f"{'an' if reads_templates else 'no'} option templates",
        "A head that reads class names has the option templates, and no other head has it.",
    )


def _refuses_unknown_options(subject: HeadSubject) -> None:
    try:
        subject.head_class.Options.model_validate({"no_such_option": 1})
    except pydantic.ValidationError:
        return
    fail("it accepts an option that it does not have", "Derive Options from HeadOptions.")


def _refuses_impossible_sizes(subject: HeadSubject) -> None:
    impossible: tuple[dict[str, Any], ...] = (
        {"width": 0},
        {"way": 0},
        {"frames": 0},
        {"seeds": []},
    )
    for sizes in impossible:
        values = {"width": WIDTH, "way": WAY, "frames": FRAMES, "seeds": [1], **sizes}
        values |= {"texts": make_class_texts()} if subject.head_class.uses_class_names else {}
        try:
            subject.head_class(subject.head_class.Options(), **values)
        except HeadError:
            continue
        fail(f"it can be built with {sizes}", "Call super().__init__ first; it refuses that.")


def _can_be_built(subject: HeadSubject) -> None:
    head = subject.build()
    require(
        hasattr(head, "episodes"),
        "its __init__ does not call that of Head",
        "Begin __init__ with super().__init__(options, width=..., way=..., frames=..., seeds=...).",
    )


def _has_an_episode_axis(subject: HeadSubject) -> None:
    try:
        check_episode_axis(subject.build(), subject.name)
    except HeadError as error:
        fail(
            str(error).partition(": ")[2],
            "Create a parameter as torch.zeros((self.episodes, ...)), or as torch.stack of a draw "
            "per generator in self.generators (see models/heads/linear.py).",
        )


def _copies_share_nothing(subject: HeadSubject) -> None:
    first, second = subject.build(), subject.build()
    storages = {p.untyped_storage().data_ptr() for p in first.parameters()}
    for name, parameter in second.named_parameters():
        size = parameter[0].numel() * parameter.element_size() * EPISODES
        require(
            parameter.untyped_storage().nbytes() >= size
            and parameter.untyped_storage().data_ptr() not in storages,
            f"the copies of the parameter {name}, or two heads, share their memory",
            "Make a new tensor in __init__, and use no .expand.",
        )


def _has_shapes_and_types(subject: HeadSubject) -> None:
    for shot in (1, 2):
        logits = dict(zip(("support", "query"), subject.logits(shot), strict=True))
        for kind, clips in (("support", WAY * shot), ("query", QUERIES)):
            shape, expected = tuple(logits[kind].shape), (EPISODES, clips, WAY)
            require(
                shape == expected,
                f"{kind}_logits gives the shape {shape}; expected {expected}: episodes, clips, way",
                "Return (E, clips, way).",
            )
            require(
                logits[kind].dtype == torch.float32 and bool(logits[kind].isfinite().all()),
                f"{kind}_logits gives {logits[kind].dtype}, or values that are not finite",
                "Compute in float32, without a division by zero.",
            )


def _ignores_autocast(subject: HeadSubject) -> None:
    head, (support, query, labels, _) = subject.build(), make_episode(2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = head.compute_support_logits(support, labels), head(query, support, labels)
    for plain, lower in zip(subject.logits(2), cast, strict=True):
        require(
            torch.equal(plain, lower),
            "autocast around the head changes its logits",
            "Override support_logits and query_logits, not forward.",
        )


def _backpropagate(
    head: Head, support: Features, query: Features, labels: Tensor, truth: Tensor
) -> Tensor:
    """Backpropagate training and query loss; return the scores of the query clips."""
    scores: Tensor = head(query, support, labels)
    training = summed_loss(head.compute_support_logits(support, labels), labels)
    torch.autograd.backward(training + summed_loss(scores, truth))
    return scores.detach()


def _keeps_episodes_apart(subject: HeadSubject) -> None:
    support, query, labels, truth = make_episode(2)
    together, frames = subject.build(), support.frames.clone().requires_grad_()
    scores = _backpropagate(together, make_features(frames), query, labels, truth)
    for e, seed in enumerate(SEEDS):
        part = slice(e, e + 1)
        alone = subject.build([seed], make_class_texts(part))
        inputs = support.frames[part].clone().requires_grad_()
        single = _backpropagate(
            alone, make_features(inputs), select_episodes(query, part), labels[part], truth[part]
        )
        problem = "beside another episode, an episode has other logits or gradients than alone"
        require_close(single, scores[part], problem, _EPISODES_ADVICE)
        if inputs.grad is not None and frames.grad is not None:
            require_close(inputs.grad, frames.grad[part], problem, _EPISODES_ADVICE)
        pairs = zip(alone.named_parameters(), together.parameters(), strict=True)
        for (name, ours), shared in pairs:
            require(
                torch.equal(ours.data, shared.data[part]),
                f"the parameter {name} starts at other values beside another episode than alone",
                "Draw the values of copy e from self.generators[e] alone.",
            )
            if ours.grad is not None and shared.grad is not None:
                require_close(ours.grad, shared.grad[part], problem, _EPISODES_ADVICE)


def _ignores_the_order_of_clips(subject: HeadSubject) -> None:
    head = subject.build()
    support, query, labels, _ = make_episode(2)
    training, scores = subject.logits(2)
    generator = torch.Generator().manual_seed(0)
    of_query = torch.randperm(QUERIES, generator=generator)
    of_support = torch.randperm(labels.shape[1], generator=generator)
    mixed = select_clips(support, of_support), labels[:, of_support]
    problem = "another order of the clips gives other logits"
    mixed_scores = head(select_clips(query, of_query), *mixed)
    require_close(mixed_scores, scores[:, of_query], problem, _CLIPS_ADVICE)
    mixed_training = head.compute_support_logits(*mixed)
    require_close(mixed_training, training[:, of_support], problem, _CLIPS_ADVICE)


def _follows_the_names_of_classes(subject: HeadSubject) -> None:
    if copy_parameters(subject.build()):
        return  # the classes of a head with weights have these weights
    support, query, labels, _ = make_episode(2)
    order = torch.tensor([2, 0, 3, 1])
    # class c is now called order[c], so that name k is of the class order.argsort()[k]
    texts = make_class_texts(order=order.argsort().tolist())
    renamed = subject.build(texts=texts)(query, support, order[labels])
    require_close(
        renamed[..., order],
        subject.logits(2)[1],
        "with the classes in another order, they get other logits",
        "Find the support clips of a class by its label, not by its position.",
    )


def _draws_from_its_seeds(subject: HeadSubject) -> None:
    state = torch.get_rng_state()
    first, again, changed = (subject.build(seeds) for seeds in (SEEDS, SEEDS, (4, 5)))
    support, query, labels, _ = make_episode(1)
    first.compute_support_logits(support, labels)
    first(query, support, labels)
    advice = "Draw every value from self.generators, one generator per episode."
    require(
        torch.equal(torch.get_rng_state(), state),
        "it takes numbers from the global random state of torch",
        advice,
    )
    parameters = zip(*(copy_parameters(head) for head in (first, again, changed)), strict=True)
    for values, same, others in parameters:
        require(torch.equal(values, same), "the same seed gives another start", advice)
        is_random = bool((values != values.flatten()[0]).any())
        require(
            not is_random or not torch.equal(values, others),
            "another seed gives the same random start",
            advice,
        )


def _leaves_its_inputs(subject: HeadSubject) -> None:
    head = subject.build()
    support, query, labels, _ = make_episode(2)
    inputs = (support.frames, support.clip, query.frames, query.clip, labels)
    before = [tensor.clone() for tensor in inputs]
    head.compute_support_logits(support, labels)
    head(query, support, labels)
    require(
        all(torch.equal(old, new) for old, new in zip(before, inputs, strict=True)),
        "it changes the features or the labels that it gets",
        _NEW_TENSOR_ADVICE,
    )


def _is_finite_without_motion(subject: HeadSubject) -> None:
    for value in (0.0, 1.7):
        head = subject.build()
        support, query, labels, _ = make_episode(2)
        frames = support.frames.clone()
        frames[:, ::2] = value
        frames.requires_grad_()
        still = make_features(frames)
        logits = head.compute_support_logits(still, labels)
        scores = head(make_features(torch.full_like(query.frames, value)), still, labels)
        torch.autograd.backward(summed_loss(logits, labels) + scores.sum())
        gradient = frames.grad
        require(
            bool(logits.isfinite().all() and scores.isfinite().all())
            and gradient is not None
            and bool(gradient.isfinite().all() and gradient.abs().max() < 1e4),
            f"clips whose features are all {value} give logits or gradients that are not finite, "
            "or huge",
            "Use l2_normalize of fewshot_i2v.models.heads, and add a small number to what is "
            "divided by, or under a root.",
        )


def _tells_clear_classes_apart(subject: HeadSubject) -> None:
    for shot in (1, 2):
        head = subject.build()
        support, query, labels, truth = make_episode(shot, noise=0.1)
        for _ in range(20 if copy_parameters(head) else 0):
            _descend(head, support, labels)
        require(
            torch.equal(head(query, support, labels).argmax(-1), truth),
            f"with {shot} clips per class, it does not tell classes apart that lie far from each "
            "other",
            "Look at the sign of the logits (the highest wins) and at the labels.",
        )


def _descend(head: Head, support: Features, labels: Tensor) -> None:
    """Take a step of plain gradient descent on the training loss."""
    head.zero_grad()
    torch.autograd.backward(summed_loss(head.compute_support_logits(support, labels), labels))
    with torch.no_grad():
        for parameter in head.parameters():
            if parameter.grad is not None:
                parameter.add_(parameter.grad, alpha=-0.05)


def _has_gradients(subject: HeadSubject) -> None:
    """After two steps: a layer that ends in zeros reaches what is before them only then."""
    head = subject.build()
    support, _, labels, _ = make_episode(2)
    frames = support.frames.clone().requires_grad_()
    for _ in range(3 if copy_parameters(head) else 1):
        with torch.no_grad():
            for p in head.parameters():
                p.sub_(torch.zeros_like(p) if p.grad is None else 0.05 * p.grad)
        head.zero_grad()
        logits = head.compute_support_logits(make_features(frames), labels)
        torch.autograd.backward(summed_loss(logits, labels))
    require(
        frames.grad is not None and bool((frames.grad.abs().sum((-1, -2)) > 0).all()),
        "the training loss has no gradient for the features of some clips: no adapter can learn",
        "Use every support clip in support_logits, without detach.",
    )
    for name, parameter in head.named_parameters():
        require(
            parameter.grad is not None and bool(parameter.grad.any()),
            f"the parameter {name} has no gradient",
            "Use it in support_logits, or remove it.",
        )


def _stored_values(head: Head, support: Features, labels: Tensor) -> int:
    """Values that autograd stores of the training scores, parameters and labels aside."""
    inputs = [*head.parameters(), labels, support.frames]
    storages = {tensor.untyped_storage().data_ptr() for tensor in inputs}
    sizes = []

    def _store(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in storages:
            storages.add(storage.data_ptr())
            sizes.append(storage.nbytes() // support.frames.element_size())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(_store, lambda tensor: tensor):
        head.compute_support_logits(support, labels)
    return sum(sizes)


def _states_its_memory(subject: HeadSubject) -> None:
    """A head that says 0 stores little beside the features; others say at most twice too much."""
    head = subject.build()
    support, _, labels, _ = make_episode(8)
    frames = support.frames.requires_grad_()
    stated = EPISODES * head.saved_activations(labels.shape[1])
    stored = _stored_values(head, make_features(frames), labels)
    require(
        stored <= stated + 12 * frames.numel() and stated <= 2 * stored,
        f"saved_activations says {stated // EPISODES} values per episode of {labels.shape[1]} "
        f"clips, and training stores {stored // EPISODES}",
        "Return from saved_activations about the number of values that training stores.",
    )


def _refuses_wide_features(subject: HeadSubject) -> None:
    head = subject.build()
    support, _, labels, _ = make_episode(2)
    wide = make_features(torch.zeros(EPISODES, QUERIES, FRAMES, WIDTH + 1))
    try:
        head(wide, support, labels)
    except HeadError:
        return
    fail(
        "features of another width are accepted",
        "Override support_logits and query_logits, not forward or select_tokens.",
    )


def _restores_its_state(subject: HeadSubject) -> None:
    second = subject.build([7, 8])
    second.load_state_dict(subject.build().state_dict())
    support, query, labels, _ = make_episode(2)
    require(
        torch.equal(second(query, support, labels), subject.logits(2)[1]),
        "with the state of a head, a new one gives other logits: it cannot be saved and loaded",
        "What is trained must be an nn.Parameter (in nn.ParameterList, not in a plain list).",
    )


def _declares_comparing_with_itself(subject: HeadSubject) -> None:
    """Then clips of noise, one per class, are told apart before any step."""
    generator = torch.Generator().manual_seed(1)
    noise = make_features(torch.randn(EPISODES, WAY, FRAMES, WIDTH, generator=generator))
    labels, head = torch.arange(WAY).expand(EPISODES, -1), subject.build()
    known = torch.equal(head.compute_support_logits(noise, labels).argmax(-1), labels)
    require(
        head.compares_with_itself == known,
        f"compares_with_itself is {head.compares_with_itself}, and training "
        f"{'compares' if known else 'does not compare'} the only clip of a class with itself",
        f"Set compares_with_itself = {known}.",
    )


HEAD_BUILDING_CHECKS: tuple[Check[HeadSubject], ...] = (
    Check("it says what it is", _describes_itself),
    Check("it refuses options that it does not have", _refuses_unknown_options),
)
"""Of a head, whatever its options."""
HEAD_CHECKS: tuple[Check[HeadSubject], ...] = (
    Check("it can be built", _can_be_built, essential=True),
    Check("every parameter has the episode axis first", _has_an_episode_axis, essential=True),
    Check("copies share no parameters", _copies_share_nothing, essential=True),
    Check("it refuses impossible sizes", _refuses_impossible_sizes),
    Check("logits have the right shape and type", _has_shapes_and_types, essential=True),
    Check(
        "its start follows from its seed alone, and nothing else is random", _draws_from_its_seeds
    ),
    Check("episodes do not change each other", _keeps_episodes_apart),
    Check("the order of clips does not matter", _ignores_the_order_of_clips),
    Check("classes in another order get the same logits", _follows_the_names_of_classes),
    Check("features and labels are not changed", _leaves_its_inputs),
    Check("clips without motion or content give finite logits", _is_finite_without_motion),
    Check("it tells clear classes apart", _tells_clear_classes_apart),
    Check("training reaches every clip and parameter", _has_gradients),
    Check("compares_with_itself is as declared", _declares_comparing_with_itself),
    Check("lower precision around it changes nothing", _ignores_autocast),
    Check("training stores as much as saved_activations says", _states_its_memory),
    Check("features of other sizes are refused", _refuses_wide_features),
    Check("it can be saved and loaded", _restores_its_state),
)
"""Of a head with each of its options."""


def run_head_contract(name: str, origin: Path) -> Iterator[CheckResult]:
    """Check the head of a name, with its default options and with each choice changed alone.

    Args:
        name: of a head that can be loaded.
        origin: its file, to name the line of an exception.

    Yields:
        A result per check.
    """
    subject = load_head_subject(name)
    variants = list(option_variants(subject))
    checks = [
        Check(check.promise, partial(_run_for_all, check.run, variants), essential=check.essential)
        for check in HEAD_CHECKS
    ]
    yield from run_checks([*HEAD_BUILDING_CHECKS, *checks], subject, origin)


def _run_for_all(
    run: Callable[[HeadSubject], None], variants: list[HeadSubject], _subject: HeadSubject
) -> None:
    """Run a check on all variants; the violation of one with options names them."""
    for variant in variants:
        try:
            run(variant)
        except ContractError as violation:
            prefix = f"{variant.label}: " if variant.options else ""
            fail(f"{prefix}{violation.problem}", violation.advice)
