"""Labels on the device whose values the host knows, so that it need not wait to read them.

The number of clips of a class decides shapes, and a class without a clip is an error: both depend
on values of labels, which the host had before it sent them to the device.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from fewshot_i2v.models.encoders.transfer import send

# of labels on a device: their values, and how often they had been written to by then
_HOST_COPIES: MutableMapping[Tensor, tuple[Tensor, int]] = WeakTensorKeyDictionary()


def send_labels(labels: Tensor, device: torch.device) -> Tensor:
    """Copies labels to a device without waiting for it; the host still knows their values.

    Args:
        labels: on the CPU, or on the device, where they stay as they are.
        device: where to.
    """
    sent = send(labels, device)
    if labels.device.type == "cpu":
        _remember(sent, labels)
    return sent


def derive_labels(function: Callable[..., Tensor], *labels: Tensor) -> Tensor:
    """Computes labels from labels; the host knows the result if it knew all of them.

    Args:
        function: of tensors, such as a selection of clips.
        labels: its arguments.
    """
    derived = function(*labels)
    if derived.device.type != "cpu":
        copies = [copy for copy in map(_known_copy, labels) if copy is not None]
        if len(copies) == len(labels):
            _remember(derived, function(*copies))
    return derived


def labels_on_host(labels: Tensor) -> Tensor:
    """Returns labels on the CPU; waits for the device where the host does not know them."""
    known = _known_copy(labels)
    if known is None:
        known = labels.cpu()
        _remember(labels, known)
    return known


def clips_per_class(labels: Tensor, way: int) -> Tensor:
    """Counts the clips of each class, (E, way) int64 on the CPU.

    Args:
        labels: (E, S) int64.
        way: number of classes.
    """
    return (labels_on_host(labels).unsqueeze(-1) == torch.arange(way)).sum(-2)


def _remember(labels: Tensor, copy: Tensor) -> None:
    # a tensor of inference mode does not tell whether it was written to
    if labels.device.type != "cpu" and not labels.is_inference():
        _HOST_COPIES[labels] = copy.clone(), labels._version


def _known_copy(labels: Tensor) -> Tensor | None:
    if labels.device.type == "cpu":
        return labels
    copy, version = _HOST_COPIES.get(labels, (None, -1))
    return copy if copy is not None and version == labels._version else None
