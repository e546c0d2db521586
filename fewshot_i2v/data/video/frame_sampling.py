"""Frame sampling policies: which frames of a clip are used.

Every policy is a pure function of the true number of frames: no random numbers, so the same clip
always gives the same frames. Integer arithmetic only, so every machine computes the same indices.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from fewshot_i2v.errors import ConfigError, UnknownNameError

SEGMENT_THIRDS = "segment-thirds"
"""What training with temporal jitter decodes, three frames of each segment."""

POLICIES = ("segment-center", "uniform", "dense", SEGMENT_THIRDS)
"""The names `frame_indices` answers to."""

FrameIndices = npt.NDArray[np.int64]


def frame_indices(policy: str, total: int, frames: int, *, stride: int = 1) -> FrameIndices:
    """Choose frames of a clip, in the order they are shown.

    A clip that is too short shows every frame it has and then repeats the last one, whatever the
    policy: the motion keeps its speed, and no index depends on how far the clip falls short.

    Args:
        policy: one of

            - `segment-center`: the centre of each of `frames` segments of equal length,
              `floor((i + 1/2) * total / frames)`; the test-time sampling of Temporal Segment
              Networks (Wang et al., ECCV 2016).
            - `uniform`: evenly spaced from the first to the last frame, both included,
              `i * (total - 1) / (frames - 1)` rounded half up; the first frame if `frames` is 1.
            - `dense`: frames `stride` apart, the window centred in the clip.
            - `segment-thirds`: with `frames` 3 T, the centre of each third of T segments, so that
              every third index from the second on is what `segment-center` chooses for T. A clip
              is too short when it has fewer than T frames; each is then chosen three times.
        total: the number of frames the clip shows, at least 1.
        frames: how many to choose, at least 1.
        stride: distance between neighbours, in frames, at least 1; used by `dense` only.

    Returns:
        Indices of shape (frames,), int64, non-decreasing, each in 0..total-1.

    Raises:
        UnknownNameError: if the policy is none of the above.
        ConfigError: if a number is not an integer of at least 1.
    """
    if policy not in POLICIES:
        raise UnknownNameError("frame policy", policy, POLICIES)
    for name, value in (("total", total), ("frames", frames), ("stride", stride)):
        check_count(name, value)
    i = np.arange(frames, dtype=np.int64)
    per_third = 3 if policy == SEGMENT_THIRDS else 1
    if total * per_third < frames:
        return np.minimum(i // per_third, total - 1)
    if policy in ("segment-center", SEGMENT_THIRDS):
        return (2 * i + 1) * total // (2 * frames)
    if policy == "uniform":
        gaps = max(frames - 1, 1)
        return (2 * i * (total - 1) + gaps) // (2 * gaps)
    start = max(0, (total - 1 - (frames - 1) * stride) // 2)
    return np.minimum(start + i * stride, total - 1)


def check_count(name: str, value: object, minimum: int = 1) -> None:
    """Refuse everything that is not an integer of at least `minimum`.

    Args:
        name: what the value is called, for the message.
        value: the value to check; booleans do not count as integers.
        minimum: the smallest value allowed.

    Raises:
        ConfigError: if the value is something else.
    """
    is_integer = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not is_integer or int(value) < minimum:  # type: ignore[call-overload]
        raise ConfigError(f"{name} is {value!r}: an integer of at least {minimum} is needed")
