"""Copies from the host to the device that do not wait for the device."""

from __future__ import annotations

import torch
from torch import Tensor


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Copies a tensor to a device; on a GPU this process goes on at once.

    A copy from ordinary memory waits until the GPU has done all that was asked before. From pinned
    memory it is one more entry in the queue; PyTorch keeps that memory until it is copied.

    Args:
        tensor: on the CPU, or on the device, where it stays as it is.
        device: where to.
    """
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
