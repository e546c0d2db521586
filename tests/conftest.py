"""Fixtures shared by all tests: no network, a private cache folder, the shared material."""

from __future__ import annotations

import gc
import os
import socket
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# A busy machine fails no test. The rest of the usual 100 examples hardly ever finds anything else.
settings.register_profile("patient", deadline=None, max_examples=50)
settings.load_profile("patient")

# Tiny tensors gain nothing from threads, and two test runs on one machine would spin against each
# other. Set before numpy and torch are imported; child processes inherit it.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection() -> None:
    """Imports make objects that stay: looking through them for garbage finds none."""
    gc.disable()


def pytest_collection_finish() -> None:
    """The objects of the imports are left out of the search for garbage while tests run."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def _homes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Names for the caches of tests; folders that are made only where something is cached."""
    folder = tmp_path_factory.mktemp("homes")
    return (folder / str(number) for number in count())


@pytest.fixture(autouse=True)
def _private_home(_homes: Iterator[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's cache."""
    monkeypatch.setenv("FEWSHOT_I2V_HOME", str(next(_homes)))
    monkeypatch.delenv("FEWSHOT_I2V_PLUGINS", raising=False)


@pytest.fixture(autouse=True, scope="session")
def _nothing_synced() -> Iterator[None]:
    """Tests leave nothing that has to outlive the machine; those of failing disks set their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda _descriptor: None)
        yield


DECODING_PROCESSES = (
    "tests/data/",
    "tests/cli/test_end_to_end.py",
    "tests/cli/test_episodes_check.py",
    "tests/test_several_at_once.py",
)
"""Tests for which clips are decoded in processes of their own, as for users."""


@pytest.fixture(autouse=True, scope="module")
def _clips_decoded_here(request: pytest.FixtureRequest) -> Iterator[None]:
    """Other runs decode in this process: one takes longer to start than tiny clips to decode."""
    if request.node.nodeid.startswith(DECODING_PROCESSES):
        yield
        return
    from fewshot_i2v.data.video import clip_cache
    from fewshot_i2v.data.video.worker_pool import run_jobs

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            clip_cache, "run_jobs", lambda jobs, _workers, limits: run_jobs(jobs, 0, limits)
        )
        yield


@pytest.fixture(autouse=True, scope="session")
def _no_bfloat16_products() -> Iterator[None]:
    """The precision "auto" is fp32, whatever the machine, so that tests compute the same.

    Tests that compare with a process of their own name the precision.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fewshot_i2v.utils.environment.has_bfloat16_products", lambda _device: False)
        yield


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any attempt to reach the network fails the test."""
    real = socket.socket.connect

    def refuse(self: socket.socket, address: object) -> None:
        if self.family == socket.AF_UNIX:
            real(self, address)  # type: ignore[arg-type]
            return
        raise AssertionError(f"a test tried to reach the network: {address!r}")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(autouse=True, scope="session")
def _multiply_accumulates_counted_once() -> Iterator[None]:
    """Runs share counts, where tests of runs were collected; others need no torch."""
    if "fewshot_i2v.evaluation.context" not in sys.modules:
        yield
        return
    from tests.tiny import multiply_accumulates_counted_once

    with multiply_accumulates_counted_once():
        yield


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made, and not laid out and rendered: for tests of what stands around them.

    Rendering takes most of the time of a page. Real figures are tested in `tests/report/page`.
    """
    from matplotlib import figure

    def save(self: Figure, out: IO[bytes], **_: Any) -> None:
        width, height = 72 * self.get_size_inches()
        out.write(
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}"/>'.encode()
        )

    monkeypatch.setattr(figure.Figure, "savefig", save)


def shared_folder() -> Path | None:
    """The folder of shared material, or None where there is none."""
    given = os.environ.get("FEWSHOT_I2V_SHARED")
    folder = Path(given) if given else Path(__file__).resolve().parents[2] / "shared"
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def shared() -> Path:
    """The shared material; skips where it is absent, or fails if the environment asks for it."""
    folder = shared_folder()
    if folder is None:
        message = "the shared material is absent (set FEWSHOT_I2V_SHARED to its folder)"
        if os.environ.get("FEWSHOT_I2V_REQUIRE_SHARED"):
            pytest.fail(message)
        pytest.skip(message)
    return folder
