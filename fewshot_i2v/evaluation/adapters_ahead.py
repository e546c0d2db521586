"""Adapters of the next episodes, built by a thread while the device works on these.

A fresh adapter draws every value on the CPU, from a generator for each episode: 20 to 40 ms an
episode for ViT-B/16, which the device would wait for. Drawing releases the interpreter lock.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

from fewshot_i2v.data.episodes.episode import Episode
from fewshot_i2v.models.adapters.base.adapter import Adapter

if TYPE_CHECKING:
    from fewshot_i2v.evaluation.row_runner import RowRunner

AdapterBuilder = Callable[[Sequence[int]], Adapter]
"""From the numbers of some episodes to their adapter, on the CPU."""


class AdaptersAhead:
    """Builds the adapters of a row ahead of their use, in one thread.

    On the CPU, and where all episodes share an adapter, nothing is built ahead: there the thread
    would only take processor time from the training.

    Attributes:
        n_ahead: adapters whose building had begun before they were needed.
    """

    def __init__(self, runner: RowRunner) -> None:
        self._runner, self.n_ahead = runner, 0
        is_useful = runner.context.encoder.tower.device.type == "cuda" and not runner.is_static
        self._thread = ThreadPoolExecutor(1, "adapters") if is_useful else None
        self._futures: dict[tuple[int, ...], Future[Adapter]] = {}

    def start(self, groups: Sequence[Sequence[Episode]]) -> None:
        """Starts to build the adapters of groups of episodes; those of other groups are dropped."""
        if self._thread is None:
            return
        keys = [tuple(episode.index for episode in group) for group in groups]
        self._futures = {
            key: self._futures.get(key) or self._thread.submit(self._build_pinned, key)
            for key in keys
        }

    def take(self, indices: Sequence[int]) -> Adapter:
        """Returns the adapter of some episodes, on the CPU; builds it here where nobody began."""
        future = self._futures.pop(tuple(indices), None)
        if future is None:
            return self._runner.build_adapter(indices)
        self.n_ahead += 1
        return future.result()

    def close(self) -> None:
        """Ends the thread; what was not taken is dropped."""
        self._futures.clear()
        if self._thread is not None:
            self._thread.shutdown(cancel_futures=True)

    def _build_pinned(self, indices: Sequence[int]) -> Adapter:
        """Builds an adapter in memory from which a copy to the device does not wait."""
        adapter = self._runner.build_adapter(indices)
        for tensor in (*adapter.parameters(), *adapter.buffers()):
            tensor.data = tensor.data.pin_memory()
        return adapter
