"""Windows of streams: the same as those of the file, in little memory, and what is refused."""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from pathlib import Path

import av
import pytest

from fewshot_i2v.data.video import live
from fewshot_i2v.data.video.live import LiveReader, LiveSource
from fewshot_i2v.data.video.reader import DecodeOptions
from fewshot_i2v.data.video.windows import WindowPlan, plan_windows, read_windows
from fewshot_i2v.errors import ConfigError, UsageError, VideoUnreadable
from fewshot_i2v.utils.limits import ClipLimits
from tests.data.video.made_videos import numbers_in, write_video
from tests.data.video.rtsp import rtsp_stream, udp_stream
from tests.data.video.streams import http_stream

OPTIONS = DecodeOptions(frames=4, size=64, crop=1.0)
WINDOW, STRIDE = 1.0, 0.5


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four seconds, 25 pictures a second."""
    return write_video(tmp_path_factory.mktemp("live") / "v.ts", "mpeg2video", 100, size=(64, 64))


def _reader(source: LiveSource) -> LiveReader:
    return LiveReader(source, WindowPlan.endless(WINDOW, STRIDE), OPTIONS)


def _numbers(reader: LiveReader) -> list[list[int]]:
    return [numbers_in(item.window.frames) for item in reader.windows()]


def _expected(video: Path) -> list[list[int]]:
    plan = plan_windows(video, WINDOW, STRIDE)
    return [numbers_in(window.frames) for window in read_windows(video, plan, OPTIONS)]


def test_a_stream_has_the_windows_of_its_file(video: Path) -> None:
    with http_stream(video) as address:
        reader = _reader(LiveSource.stream(address))
        assert _numbers(reader) == _expected(video)
    assert reader.counts.pictures == 100
    assert reader.counts.seconds == pytest.approx(4.0)
    assert (reader.counts.damaged, reader.counts.dropped) == (0, 0)
    assert reader.counts.rate > 0


@pytest.mark.skipif(sys.platform == "win32", reason="has no named pipes in folders")
def test_a_named_pipe(video: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(video.read_bytes()), daemon=True)
    writer.start()
    assert _numbers(_reader(LiveSource.stream(str(pipe)))) == _expected(video)
    writer.join()


def test_a_file_that_grows(video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_WAIT_SECONDS", 1.5)
    data, path = video.read_bytes(), tmp_path / "grows.ts"
    half = len(data) // 2
    path.write_bytes(data[:half])

    def _grow() -> None:
        time.sleep(0.3)
        with path.open("ab") as file:
            file.write(data[half:])

    thread = threading.Thread(target=_grow, daemon=True)
    thread.start()
    assert _numbers(_reader(LiveSource.stream(str(path)))) == _expected(video)
    thread.join()


def test_what_can_wait_is_not_read_ahead(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_MAX_WAITING", 1)
    with http_stream(video) as address:
        reader = _reader(LiveSource.stream(address))
        windows = reader.windows()
        next(windows)
        time.sleep(0.3)
        # two windows are waiting: one in the queue, one in the hand of the thread
        assert reader.counts.pictures < 70
        assert len(list(windows)) == len(_expected(video)) - 1
    assert reader.counts.dropped == 0


def test_what_cannot_wait_loses_its_oldest_windows(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_MAX_WAITING", 2)
    with http_stream(video) as address:
        source = LiveSource(address, address, None, {}, is_unpaused=True)
        reader = _reader(source)
        windows = reader.windows()
        first = next(windows)
        deadline = time.monotonic() + 20
        while reader.counts.pictures < 100 and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(0.2)
        numbers = [first.window.number, *(item.window.number for item in windows)]
    n_windows = len(_expected(video))
    assert numbers[-1] == n_windows - 1, "the newest are kept"
    assert len(numbers) + reader.counts.dropped == n_windows
    assert reader.counts.dropped > 0


def test_the_caller_may_stop(video: Path) -> None:
    with http_stream(video, stays_open=True) as address:
        windows = _reader(LiveSource.stream(address)).windows()
        next(windows)
        windows.close()  # type: ignore[attr-defined]
    with pytest.raises(StopIteration):
        next(windows)


def test_damage_is_left_out_and_counted(video: Path, tmp_path: Path) -> None:
    data = bytearray(video.read_bytes())
    for packet in range(len(data) // 376, len(data) // 376 + 12):
        data[188 * packet + 20 : 188 * packet + 188] = b"\xff" * 168
    path = tmp_path / "damaged.ts"
    path.write_bytes(data)
    with pytest.raises(VideoUnreadable):
        list(read_windows(path, WindowPlan.of(4.0, 1.0, 0.5), OPTIONS))
    with http_stream(path) as address:
        reader = _reader(LiveSource.stream(address))
        assert len(_numbers(reader)) > 3
    assert reader.counts.pictures > 80


def test_a_sender_that_falls_silent_is_an_error(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_WAIT_SECONDS", 0.7)
    with http_stream(video, stays_open=True) as address:
        reader = _reader(LiveSource.stream(address))
        with pytest.raises(VideoUnreadable, match=r"sent nothing for 0\.7 s"):
            _numbers(reader)
    assert reader.counts.pictures > 80


def test_sources_that_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_WAIT_SECONDS", 0.3)
    with pytest.raises(UsageError, match=r"expected an address of rtsp, .*, a file"):
        LiveSource.stream("concat://a|b")
    with pytest.raises(UsageError, match="no such file or named pipe"):
        LiveSource.stream(str(tmp_path / "gone.ts"))
    with pytest.raises(ConfigError, match="window and stride"):
        WindowPlan.endless(1.0, 2.0)
    with pytest.raises(VideoUnreadable, match="cannot be opened"):
        _numbers(_reader(LiveSource.stream("http://127.0.0.1:9/none")))
    playlist = tmp_path / "list.ts"
    playlist.write_text(f"ffconcat version 1.0\nfile '{tmp_path / 'other.ts'}'\n")
    with pytest.raises(VideoUnreadable):
        _numbers(_reader(LiveSource.stream(str(playlist))))


@pytest.mark.parametrize("over_tcp", [False, True], ids=["udp", "tcp"])
def test_an_rtsp_stream_has_the_windows_of_its_file(video: Path, over_tcp: bool) -> None:
    with rtsp_stream(video, over_tcp=over_tcp) as address:
        reader = _reader(LiveSource.stream(address))
        assert _numbers(reader) == _expected(video)
    assert (reader.counts.pictures, reader.counts.damaged) == (100, 0)


def test_an_rtsp_stream_goes_on_after_lost_packets(tmp_path: Path) -> None:
    large = write_video(tmp_path / "v.ts", "mpeg2video", 100, size=(320, 240))
    # by UDP a busy machine loses others, too
    with rtsp_stream(large, lost={60, 61, 200}, over_tcp=True) as address:
        reader = _reader(LiveSource.stream(address))
        assert len(_numbers(reader)) == len(_expected(large))
    assert 90 <= reader.counts.pictures < 100
    assert reader.counts.seconds == pytest.approx(4.0, abs=0.2)


def test_an_rtsp_sender_that_falls_silent_is_an_error(
    video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "_WAIT_SECONDS", 0.7)
    with rtsp_stream(video, stays_open=True) as address:
        reader = _reader(LiveSource.stream(address))
        with pytest.raises(VideoUnreadable, match=r"^rtsp://127.*: sent nothing for 0\.7 s"):
            _numbers(reader)
    assert reader.counts.pictures > 80


def test_udp_packets_are_read_until_none_come(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody says that such a stream is over."""
    monkeypatch.setattr(live, "_WAIT_SECONDS", 0.7)
    with udp_stream(video, lost={9}) as address:
        reader = _reader(LiveSource.stream(address))
        with pytest.raises(VideoUnreadable, match=r"^udp://127.*: sent nothing for 0\.7 s"):
            _numbers(reader)
    assert 80 <= reader.counts.pictures < 100
    assert reader.counts.seconds == pytest.approx(4.0, abs=0.2)


@pytest.mark.parametrize("scheme", ["udp", "rtsp"])
def test_where_nobody_sends_the_error_says_so(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_OPEN_SECONDS", 0.3)
    expected = {"udp": r"sent nothing for 0\.3 s", "rtsp": "Connection refused"}[scheme]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(VideoUnreadable, match=f"{expected}.*; check the address, and that the se"):
        _numbers(_reader(LiveSource.stream(f"{scheme}://127.0.0.1:{port}")))


@pytest.mark.parametrize(
    ("system", "name", "expected"),
    [
        ("linux", "0", ("v4l2", "/dev/video0", {})),
        ("linux", "/dev/video2", ("v4l2", "/dev/video2", {})),
        ("darwin", "0", ("avfoundation", "0", {"framerate": "30"})),
        ("win32", "USB Camera", ("dshow", "video=USB Camera", {})),
    ],
)
def test_cameras_of_each_system(
    system: str, name: str, expected: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    source = LiveSource.camera(name)
    assert (source.form, source.address, source.options) == expected
    assert source.is_unpaused


@pytest.mark.parametrize(
    ("system", "name", "message"),
    [("linux", "front", "expected a number"), ("win32", "0", "expected the name of a camera")],
)
def test_cameras_that_cannot_be(
    system: str, name: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    with pytest.raises(UsageError, match=message):
        LiveSource.camera(name)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems name cameras otherwise")
def test_a_camera_that_is_not_there_is_named() -> None:
    expected = r"^camera 99: /dev/video99: cannot be opened .*; cameras of this machine: "
    with pytest.raises(VideoUnreadable, match=expected):
        _numbers(_reader(LiveSource.camera("99")))


@pytest.mark.skipif("lavfi" not in av.formats_available, reason="FFmpeg has no lavfi")
def test_a_device_is_read_by_its_demuxer() -> None:
    """A generated picture stands in for that of a camera; both are devices of FFmpeg."""
    address = "testsrc=size=64x64:rate=25:duration=4"
    source = LiveSource("camera 0", address, "lavfi", {}, is_unpaused=False)
    reader = _reader(source)
    windows = [item.window for item in reader.windows()]
    assert [window.start for window in windows] == pytest.approx([0.5 * i for i in range(7)])
    assert (windows[0].frames != windows[-1].frames).any()
    assert reader.counts.pictures == 100


def test_pictures_that_are_too_large_are_refused(video: Path) -> None:
    plan = WindowPlan.endless(WINDOW, STRIDE)
    with http_stream(video) as address:
        reader = LiveReader(LiveSource.stream(address), plan, OPTIONS, ClipLimits(pixels=1000))
        with pytest.raises(VideoUnreadable, match="--max-pixels"):
            _numbers(reader)
