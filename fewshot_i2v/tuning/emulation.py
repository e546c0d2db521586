"""The note that a device emulates a precision, and is slow in it; the precision stays as it is."""

from __future__ import annotations

import torch

from fewshot_i2v.models.encoders.tower import Tower
from fewshot_i2v.utils import environment

FLAG_ADVICE = "For a new run give --precision fp32 or auto"
MODEL_ADVICE = "A model made with --precision fp32 or auto is faster here"


def emulation_note(tower: Tower, advice: str = FLAG_ADVICE) -> str:
    """Returns the note that the device emulates the bf16 products of a tower.

    Args:
        tower: the one that computes the frozen prefix of clips, see `prefix_tower`. What an adapter
            changes is computed in the same type.
        advice: what to do to be faster.

    Returns:
        The note, "" where nothing is emulated: never of float32, and so never of the precision
        auto, which is bf16 only on devices that have instructions for it.
    """
    device = tower.device
    if tower.dtype != torch.bfloat16 or environment.has_bfloat16_products(device):
        return ""
    precision = "bf16" if tower.exact is tower else "mixed"
    # measured on CPUs alone: 0.5 in place of 37 GFLOP/s with one thread of an AMD Milan (512 x 512)
    slower = "many times slower" if device.type == "cpu" else "slower"
    return (
        f"precision {precision}: this device ({device.type}) has no instructions for bf16 products "
        f"that PyTorch knows, and emulates them, {slower} than fp32. {advice}"
    )
