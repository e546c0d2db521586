"""Windows of a camera or a stream while it runs, read by a thread of its own.

A live source cannot be read twice, and damage cannot be mended: pictures that cannot be decoded
are counted and left out, unlike in files.
"""

from __future__ import annotations

import queue
import stat
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from errno import EIO
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, BinaryIO

from fewshot_i2v.data.video.pyav_stream import moving_streams, translate_errors
from fewshot_i2v.data.video.reader import DecodeOptions
from fewshot_i2v.data.video.windows import (
    ShownPicture,
    VideoWindow,
    WindowPlan,
    assemble_windows,
    picture_maker,
)
from fewshot_i2v.errors import UsageError, VideoUnreadable
from fewshot_i2v.utils.limits import DEFAULT_LIMITS, ClipLimits, limit_hint
from fewshot_i2v.utils.waiting_threads import start_waiting_thread

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

STDIN = "-"
_SCHEMES = ("rtsp", "rtsps", "rtp", "udp", "tcp", "http", "https", "rtmp", "srt")
_UNPAUSED_SCHEMES = ("rtsp", "rtsps", "rtp", "udp")
"""Senders that go on whether or not they are read: old windows make way for new ones."""
_NETWORK_PROTOCOLS = "rtsp,rtsps,rtp,srtp,udp,tcp,tls,http,https,httpproxy,crypto,rtmp,srt"
_FORMATS = (
    "mpegts,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,avi,flv,mpeg,mpegvideo,h264,hevc,m4v,mjpeg,"
    "mpjpeg,ivf,nut,yuv4mpegpipe,asf"
)
"""Of files and pipes: none of these opens a second file."""
_PROBE_OPTIONS = {"probesize": "1000000", "analyzeduration": "1000000"}
"""Bytes and microseconds that are looked at before the first picture, at most."""
_OPEN_SECONDS, _WAIT_SECONDS = 10.0, 10.0
_MAX_WAITING = 8
_END_SECONDS = 1.0
"""Windows that wait to be classified."""
_MAX_LEAP = 10.0
"""Seconds between two pictures, above which the clock of a stream was set anew."""


@dataclass(frozen=True)
class LiveSource:
    """A camera, the address of a stream, a pipe, or a file that grows.

    Attributes:
        name: what the user calls it.
        address: what FFmpeg opens.
        form: demuxer of a camera; None: FFmpeg looks at the data.
        options: of FFmpeg.
        is_unpaused: whether it goes on when it is not read.
        is_file: whether it is a file, which ends where it does not grow any more.
    """

    name: str
    address: str
    form: str | None
    options: dict[str, str]
    is_unpaused: bool
    is_file: bool = False

    @classmethod
    def camera(cls, name: str) -> LiveSource:
        """A camera by its number, or by its name where the system has names.

        Raises:
            UsageError: for a name that has no meaning on this system.
        """
        options: dict[str, str] = {}
        if sys.platform == "darwin":
            # the rate that FFmpeg chooses by itself, 29.97, is refused by most cameras of a Mac
            form, address, options = "avfoundation", name, {"framerate": "30"}
        elif sys.platform == "win32" and not name.isdecimal():
            form, address = "dshow", f"video={name}"
        elif sys.platform == "win32":
            raise UsageError(
                f"camera: got {name}; on Windows expected the name of a camera, as `ffmpeg "
                "-list_devices true -f dshow -i dummy` or the device manager shows it"
            )
        elif name.isdecimal():
            form, address = "v4l2", f"/dev/video{name}"
        elif name.startswith("/dev/"):
            form, address = "v4l2", name
        else:
            raise UsageError(f"camera: got {name!r}; expected a number, such as 0, or /dev/video0")
        return cls(f"camera {name}", address, form, options, is_unpaused=True)

    @classmethod
    def stream(cls, name: str) -> LiveSource:
        """An address, a named pipe, a file that grows, or - for standard input.

        Raises:
            UsageError: for an address of another kind, or a file that is not there.
        """
        scheme, colon, _ = name.partition("://")
        if colon:
            if scheme.lower() not in _SCHEMES:
                raise UsageError(
                    f"stream: got {name!r}; expected an address of {', '.join(_SCHEMES)}, a file, "
                    "a named pipe or -"
                )
            options = _PROBE_OPTIONS | {"protocol_whitelist": _NETWORK_PROTOCOLS}
            return cls(name, name, None, options, scheme.lower() in _UNPAUSED_SCHEMES)
        options = {"protocol_whitelist": "file,pipe", "format_whitelist": _FORMATS}
        options |= _PROBE_OPTIONS
        if name == STDIN:
            return cls("standard input", "pipe:0", None, options, is_unpaused=False)
        path = Path(name)
        if not path.exists() or path.is_dir():
            raise UsageError(f"stream: {name}: no such file or named pipe")
        is_file = stat.S_ISREG(path.stat().st_mode)
        address = str(path.absolute()) if is_file else f"file:{path.absolute()}"
        return cls(name, address, None, options, is_unpaused=False, is_file=is_file)

    @property
    def is_http(self) -> bool:
        """Whether it is read over HTTP."""
        return self.address.lower().startswith(("http://", "https://"))


@dataclass
class LiveCounts:
    """What was read of a live source so far.

    Attributes:
        pictures: that were decoded.
        damaged: packets or pictures that were left out.
        dropped: windows that nobody classified in time.
        seconds: of the source, from its first picture.
        started: clock time of the first picture, in seconds of `time.monotonic`.
    """

    pictures: int = 0
    damaged: int = 0
    dropped: int = 0
    seconds: float = 0.0
    started: float | None = None

    @property
    def rate(self) -> float:
        """Pictures that were read in a second of the clock."""
        elapsed = 0.0 if self.started is None else monotonic() - self.started
        return self.pictures / elapsed if elapsed > 0 else 0.0


@dataclass(frozen=True, eq=False)
class LiveWindow:
    """A window of a live source.

    Attributes:
        window: its frames and times.
        arrived: clock time of its last picture, in seconds of `time.monotonic`.
    """

    window: VideoWindow
    arrived: float


class LiveReader:
    """Reads the windows of a live source, in a thread, so that none waits for the encoder.

    Memory does not grow: at most eight windows wait. Of a source that goes on when it is not read
    the oldest one makes way; others wait.

    Args:
        source: to read.
        plan: its windows, from `WindowPlan.endless`.
        options: number of frames, size and crop.
        limits: larger pictures are refused.

    Attributes:
        counts: what was read so far.
    """

    def __init__(
        self,
        source: LiveSource,
        plan: WindowPlan,
        options: DecodeOptions,
        limits: ClipLimits = DEFAULT_LIMITS,
    ) -> None:
        self.source, self.plan, self.options, self.limits = source, plan, options, limits
        self.counts = LiveCounts()
        self._waiting: queue.Queue[LiveWindow | Exception | None] = queue.Queue(_MAX_WAITING)
        self._stop = threading.Event()

    def windows(self) -> Iterator[LiveWindow]:
        """Yields windows as they come, until the source ends or the caller stops.

        Raises:
            VideoUnreadable: when it cannot be opened, or sends nothing any more.
        """
        thread = start_waiting_thread(self._run, "live reader")
        try:
            while True:
                try:  # in steps, so that Ctrl-C is seen on every system
                    item = self._waiting.get(timeout=0.2)
                except queue.Empty:
                    continue
                if item is None:
                    return
                if isinstance(item, Exception):
                    raise item
                yield item
        finally:
            self._stop.set()
            # a source that sends pictures ends it with the next one
            thread.join(timeout=_END_SECONDS)

    def _run(self) -> None:
        end: Exception | None = None
        try:
            for window in assemble_windows(self._pictures(), self.plan, self.options.frames):
                self._put(LiveWindow(window, monotonic()))
                if self._stop.is_set():
                    return
        except VideoUnreadable as error:
            # a path would make rtsp:/ of rtsp://
            end = VideoUnreadable(self.source.name, error.reason)
            end.__cause__ = error
        except Exception as error:  # noqa: BLE001 - raised where the windows are read
            end = error
        self._put(end, may_drop=False)

    def _put(self, item: LiveWindow | Exception | None, *, may_drop: bool = True) -> None:
        while not self._stop.is_set():
            try:
                self._waiting.put(item, timeout=0 if self.source.is_unpaused else 0.2)
            except queue.Full:
                if may_drop and self.source.is_unpaused:
                    self._drop_oldest()
            else:
                return

    def _drop_oldest(self) -> None:
        try:
            self._waiting.get_nowait()
        except queue.Empty:  # it was taken meanwhile
            return
        self.counts.dropped += 1

    def _pictures(self) -> Iterator[ShownPicture]:
        """Yields pictures; each is shown until the next one comes."""
        path = Path(self.source.name)
        previous: VideoFrame | None = None
        time, offset, step = 0.0, 0.0, 0.04
        for frame, seconds in self._frames():
            if previous is not None:
                moved = seconds + offset - time
                if not 0 < moved <= _MAX_LEAP:  # the clock of the stream was set anew
                    offset += step - moved
                    moved = step
                time, step = time + moved, moved
                self.counts.seconds = time
                yield picture_maker(path, previous, self.options, self.limits), time
            else:
                offset = -seconds
            previous = frame
        if previous is not None:
            self.counts.seconds = time + step
            yield picture_maker(path, previous, self.options, self.limits), time + step

    def _frames(self) -> Iterator[tuple[VideoFrame, float]]:
        """Yields decoded frames with their times in seconds, of any origin."""
        path = Path(self.source.name)
        with open_live(self.source, self._stop) as (container, stream):
            time_base = float(stream.time_base or 0)
            for packet in self._packets(container, stream):
                if self._stop.is_set():
                    return
                for frame in self._decode(packet, stream):
                    if frame.width * frame.height > self.limits.pixels:
                        raise VideoUnreadable(path, f"has larger frames; {limit_hint('pixels')}")
                    now = monotonic()
                    if self.counts.started is None:
                        self.counts.started = now
                    self.counts.pictures += 1
                    yield frame, now if frame.pts is None else frame.pts * time_base

    def _packets(
        self, container: InputContainer, stream: VideoStream
    ) -> Iterator[Packet[VideoStream] | None]:
        """Yields packets; None at the end, which flushes the decoder."""
        import av

        path, on_disk = Path(self.source.name), self.source.is_file
        packets = container.demux(stream)
        while True:
            try:
                with translate_errors(path, "the stream broke off", is_on_disk=on_disk):
                    packet = next(packets, None)
            except VideoUnreadable as error:
                cause = error.__cause__
                if isinstance(cause, av.error.ExitError | av.error.TimeoutError):
                    reason = f"sent nothing for {_WAIT_SECONDS:g} s"
                    raise VideoUnreadable(path, reason) from error
                # what FFmpeg says of a sender that closes without having said how much there is
                if self.source.is_http and isinstance(cause, OSError) and cause.errno == EIO:
                    yield None
                    return
                raise
            if packet is None:
                return
            yield packet

    def _decode(self, packet: Packet[VideoStream] | None, stream: VideoStream) -> list[VideoFrame]:
        import av

        try:
            frames = stream.codec_context.decode(packet)
        except (av.FFmpegError, ValueError):
            self.counts.damaged += 1
            return []
        intact = [frame for frame in frames if not frame.is_corrupt]
        self.counts.damaged += len(frames) - len(intact)
        return intact


class _GrowingFile:
    """A file that is read while another program writes it; it ends when it does not grow."""

    def __init__(self, file: BinaryIO, stop: threading.Event) -> None:
        self._file, self._stop, self._has_ended = file, stop, False

    def read(self, size: int) -> bytes:
        """Up to `size` bytes, as soon as there are some; none at the end."""
        deadline = monotonic() + _WAIT_SECONDS
        while not (data := self._file.read(size)) and not self._has_ended:
            self._has_ended = self._stop.wait(0.05) or monotonic() > deadline
        return data


@contextmanager
def open_live(
    source: LiveSource, stop: threading.Event
) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Opens a live source.

    Args:
        source: to open.
        stop: ends the waiting for a file that grows.

    Yields:
        The container and its video stream.

    Raises:
        VideoUnreadable: when it cannot be opened, or has no video.
    """
    import av

    path = Path(source.name)
    with ExitStack() as stack:
        opened: Any = source.address
        with (
            _explain_opening(source),
            translate_errors(path, "cannot be opened", is_on_disk=source.is_file),
        ):
            if source.is_file:
                opened = _GrowingFile(stack.enter_context(Path(opened).open("rb")), stop)
            container = av.open(
                opened,
                format=source.form,
                options=source.options,
                timeout=(_OPEN_SECONDS, _WAIT_SECONDS),
                metadata_errors="replace",
            )
        stack.enter_context(container)
        streams = moving_streams(container)
        if not streams:
            raise VideoUnreadable(path, "holds no video stream")
        if streams[0].codec_context is None:
            raise VideoUnreadable(path, "is coded in a format that no decoder here knows")
        yield container, streams[0]


@contextmanager
def _explain_opening(source: LiveSource) -> Iterator[None]:
    """Says of a source that cannot be opened what can be done."""
    import av

    try:
        yield
    except VideoUnreadable as error:
        reason = error.reason
        if isinstance(error.__cause__, av.error.ExitError | av.error.TimeoutError):
            reason = f"sent nothing for {_OPEN_SECONDS:g} s"
        if source.form is not None:
            reason = f"{source.address}: {reason}; {_camera_hint(source)}"
        elif "://" in source.address:
            reason += "; check the address, and that the sender runs and may be reached from here"
        raise VideoUnreadable(source.name, reason) from error


def _camera_hint(source: LiveSource) -> str:
    """What can be done about a camera that cannot be opened."""
    if source.form != "v4l2":
        return "check its name or number, and that this program may use cameras"
    address = Path(source.address)
    if address.exists():
        return "check that no other program uses it, and that you may read it (group video)"
    cameras = ", ".join(map(str, sorted(Path("/dev").glob("video*")))) or "none"
    return f"cameras of this machine: {cameras}. What another program reads can be sent to --stream"
