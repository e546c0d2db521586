"""What the benchmarks do on a GPU that is lent for minutes, and how long that takes, reckoned.

Their defaults would take much longer there: an episode of ViT-B/16 is 0.1 PFLOP. Seconds are FLOP
over assumed rates, and for what a host does those that it took on one slow core. They are for
planning; `tests/scripts/test_on_device.py` holds them below ten minutes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

ADAPTERS, PRECISIONS, AT_ONCE, ROUNDS = ("st-adapter", "aim"), ("bf16",), (1, 4, 16), 3
PROFILED_AT_ONCE, PROFILED_STEPS, COMPILED_ROUNDS = 4, 10, 1
TRAINING_CLIPS, TRAINING_STEPS, TRAINING_ROUNDS = 16, 10, 2
FROZEN_EPISODES, LONG_EPISODES, READ_CLIPS, READ_ROUNDS = 10_000, 2000, 20, 2


def _each(flag: str, values: Sequence[object]) -> list[str]:
    return [word for value in values for word in (flag, str(value))]


_METHODS = _each("--adapter", ADAPTERS)
TRIMMED: dict[str, list[str]] = {
    "tuning": [
        *_METHODS,
        *_each("--precision", PRECISIONS),
        *_each("--at-once", AT_ONCE),
        *("--rounds", str(ROUNDS)),
    ],
    "compiled": [
        *("--adapter", "st-adapter", "--precision", "bf16", "--at-once", str(PROFILED_AT_ONCE)),
        *("--rounds", str(COMPILED_ROUNDS), "--compiled"),
    ],
    "profile": [
        *_METHODS,
        *("--at-once", str(PROFILED_AT_ONCE), "--steps", str(PROFILED_STEPS), "--bf16-only"),
    ],
    "train": [
        *("--adapter", "st-adapter", "--precision", "bf16", "--clips", str(TRAINING_CLIPS)),
        *("--steps", str(TRAINING_STEPS), "--rounds", str(TRAINING_ROUNDS)),
    ],
    "frozen": ["--episodes", str(FROZEN_EPISODES), "--repeats", "1"],
    "decode": ["--clips", str(READ_CLIPS), "--rounds", str(READ_ROUNDS)],
    "scale": ["--quick"],
    "merge": ["--shards", "16", "--repeats", "1"],
    "long": ["--episodes", str(LONG_EPISODES)],
}
"""Arguments of `bench_NAME.py`, and of `profile_step.py`, on a GPU that is lent for minutes.

`compiled` is `bench_tuning.py` too."""

_FRAME_TFLOP = 2 * 17.6e-3  # ViT-B/16, 224 pixels: 17.6 G multiply-accumulates a frame
_FRAMES, _SUPPORT, _QUERY, _STEPS = 8, 5, 25, 30
_STEP_FACTOR = 2.2  # forward, backward to the tokens, and the adapter
# half of what data sheets of an H100 or H200 say, in TFLOP/s, and less where much is not products
RATES = {"fp32": 33.0, "tf32": 200.0, "bf16 autocast": 250.0}
TOOLKIT_RATES = {"fp32": 33.0, "bf16": 250.0, "mixed": 250.0}
# seconds of a process until it computes; the same of the clips of all episodes of a benchmark
_START, _CLIPS = 15.0, 30.0
# of twelve blocks of ST-Adapter; six take 20 to 30 s on one core
_COMPILING = 60.0


def episode_tflop(steps: int = _STEPS, query: int = _QUERY) -> float:
    """Count the TFLOP of an episode of the plain loop, in which nothing is left out."""
    return _FRAME_TFLOP * _FRAMES * (_STEP_FACTOR * steps * _SUPPORT + query)


def tuning_seconds(
    n_adapters: int, precisions: Sequence[str], at_once: Sequence[int], rounds: int
) -> float:
    """Reckon `bench_tuning.py`: every setting once untimed and `rounds` times timed."""
    loops = sum(1 / rate for rate in RATES.values())
    toolkit = sum(1 / TOOLKIT_RATES[name] for name in precisions) * sum(at_once)
    computing = n_adapters * (1 + rounds) * episode_tflop() * (loops + toolkit)
    return _START + _CLIPS + computing


def compiled_seconds() -> float:
    """Reckon `bench_tuning.py` with compiled blocks, on clips that are there already."""
    both = tuning_seconds(1, ("bf16", "bf16"), (PROFILED_AT_ONCE,), COMPILED_ROUNDS)
    return both - _CLIPS + _COMPILING


def profile_seconds() -> float:
    """Reckon `profile_step.py`: the loop in float32 five times, the toolkit six times."""
    tflop = episode_tflop(PROFILED_STEPS)
    toolkit = 6 * PROFILED_AT_ONCE / TOOLKIT_RATES["bf16"]
    return _START + _CLIPS + len(ADAPTERS) * tflop * (5 / RATES["fp32"] + toolkit)


def train_seconds() -> float:
    """Reckon `bench_train.py`: a training of the toolkit more than there are rounds."""
    step = _FRAME_TFLOP * _FRAMES * TRAINING_CLIPS * _STEP_FACTOR
    loop = TRAINING_ROUNDS * (TRAINING_STEPS + 1) * step / RATES["fp32"]
    toolkit = (TRAINING_ROUNDS + 1) * TRAINING_STEPS * step / TOOLKIT_RATES["bf16"]
    return _START + _CLIPS + loop + toolkit + 5 * (TRAINING_ROUNDS + 1)


def reckoned_seconds() -> Mapping[str, float]:
    """Reckon the seconds of every trimmed benchmark.

    Those of the host alone: frozen runs took 21 s with new clips, 7 s twice with seen ones and 3 s
    with few; a clip is read six ways in 0.4 s; `bench_scale.py --quick` took 30 s; 160,000 records
    are written in 15 s and read in 4; a tiny tuned episode took 37 ms.
    """
    return {
        "tuning": tuning_seconds(len(ADAPTERS), PRECISIONS, AT_ONCE, ROUNDS),
        "compiled": compiled_seconds(),
        "profile": profile_seconds(),
        "train": train_seconds(),
        "frozen": 4 * _START / 2 + 21 + 2 * 7 + 3,
        "decode": _START + 0.4 * READ_CLIPS * (READ_ROUNDS + 1),
        "scale": _START + 30,
        "merge": _START + 15 + 4,
        "long": _START + 0.037 * LONG_EPISODES,
    }
