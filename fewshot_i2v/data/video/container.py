"""Container type of a file, from its first bytes and never from its name.

The result is the one demuxer that may open the file. Playlists, concatenation scripts and stream
descriptions name other files or addresses to open; they have no demuxer here, whatever the file
is called.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from fewshot_i2v.data.video.clip_disk import check_disk_of
from fewshot_i2v.errors import VideoUnreadable
from fewshot_i2v.utils import input_files

_HEADER_BYTES = 4096

MOV = "mov,mp4,m4a,3gp,3g2,mj2"
MATROSKA = "matroska,webm"

_MOV_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")
_PICTURE_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1", b"jxl ")

_CONTAINER_SIGNATURES: tuple[tuple[str, Callable[[bytes], bool]], ...] = (
    (MOV, lambda b: b[4:8] in _MOV_BOXES and b[8:12] not in _PICTURE_BRANDS),
    (MATROSKA, lambda b: b.startswith(b"\x1aE\xdf\xa3")),
    ("avi", lambda b: b.startswith(b"RIFF") and b[8:11] == b"AVI"),
    ("gif", lambda b: b[:6] in (b"GIF87a", b"GIF89a")),
    ("mpegts", lambda b: _repeats_sync(b, 0, 188) or _repeats_sync(b, 4, 192)),
    ("mpeg", lambda b: b.startswith(b"\x00\x00\x01\xba")),
    ("mpegvideo", lambda b: b.startswith(b"\x00\x00\x01\xb3")),
    ("asf", lambda b: b.startswith(b"\x30\x26\xb2\x75\x8e\x66\xcf\x11")),
    ("flv", lambda b: b.startswith(b"FLV\x01")),
)

_TEXT_SIGNATURES = (
    (b"version https://git-lfs", "is a Git LFS pointer, not a video: run git lfs pull"),
    (b"#extm3u", "is a playlist (HLS), not a video: give the media file itself"),
    (b"ffconcat", "is a playlist (ffconcat), not a video: give the media files themselves"),
    (b"[playlist]", "is a playlist (PLS), not a video: give the media file itself"),
    (b"v=0", "is a stream description (SDP), not a video: give a recording"),
    (b"<!doctype html", "is a web page, not a video: the download gave an error page"),
    (b"<html", "is a web page, not a video: the download gave an error page"),
)

_BINARY_SIGNATURES = (
    (b"\x89PNG", "is a picture (PNG), not a video"),
    (b"\xff\xd8\xff", "is a picture (JPEG), not a video"),
    (b"BM", "is a picture (BMP), not a video"),
    (b"II*\x00", "is a picture (TIFF), not a video"),
    (b"MM\x00*", "is a picture (TIFF), not a video"),
    (b"ID3", "is an audio file (MP3): it holds no video stream"),
    (b"\xff\xfb", "is an audio file (MP3): it holds no video stream"),
    (b"fLaC", "is an audio file (FLAC): it holds no video stream"),
    (b"OggS", "is an Ogg file, which is not supported: convert it to MP4"),
    (b"PK\x03\x04", "is a ZIP archive, not a video: unpack it first"),
    (b"\x1f\x8b", "is a gzip archive, not a video: unpack it first"),
)


class ContainerInfo(NamedTuple):
    """Result of `identify_container`.

    Attributes:
        demuxer: the name of the one FFmpeg demuxer that may open the file.
        size: bytes in the file.
        missing_bytes: bytes the container declares beyond the end of the file; 0 if none, or if the
            container does not say.
    """

    demuxer: str
    size: int
    missing_bytes: int


def detect_demuxer(path: Path) -> str:
    """Detect the demuxer of a file that could be a video, from its first bytes alone.

    Returns:
        The demuxer to open it with; "" for a text or a picture, which is plainly no video.

    Raises:
        VideoUnreadable: as `identify_container` does for everything else.
    """
    with _open_file(path) as file:
        head = file.read(_HEADER_BYTES)
    # so end the reasons where there is nothing to advise
    if _match_demuxer(head) is None and _rejection_reason(head).endswith("not a video"):
        return ""
    return _require_demuxer(path, head)


def identify_container(path: Path) -> ContainerInfo:
    """Identify the container of a file from its content; symbolic links are followed.

    Raises:
        VideoUnreadable: if there is no such file, it is no regular file (nothing else is ever
            opened: a FIFO would block), it is empty, or it is no video container.
    """
    with _open_file(path) as file:
        head = file.read(_HEADER_BYTES)
        size = os.fstat(file.fileno()).st_size
        demuxer = _require_demuxer(path, head)
        return ContainerInfo(demuxer, size, max(0, _declared_end(file, demuxer) - size))


@contextmanager
def _open_file(path: Path) -> Iterator[BinaryIO]:
    """Open a regular file for reading; failures become `VideoUnreadable`."""
    check_regular_file(path)
    try:
        with input_files.open_regular(path) as file:
            yield file
    except OSError as error:
        check_disk_of(path, error)
        raise VideoUnreadable(path, f"cannot be opened: {error.strerror}") from error


def _match_demuxer(head: bytes) -> str | None:
    return next((name for name, matches in _CONTAINER_SIGNATURES if matches(head)), None)


def _require_demuxer(path: Path, head: bytes) -> str:
    if not head:
        raise VideoUnreadable(path, "is empty (0 bytes)")
    demuxer = _match_demuxer(head)
    if demuxer is None:
        raise VideoUnreadable(path, _rejection_reason(head))
    return demuxer


def check_regular_file(path: Path) -> os.stat_result:
    """Check that a path is a regular file, without opening it, and return its status.

    Raises:
        VideoUnreadable: if it does not exist, or is a folder, a named pipe, a device, a socket.
    """
    try:
        return input_files.check_regular_file(path)
    except FileNotFoundError as error:
        raise VideoUnreadable(path, "does not exist") from error
    except OSError as error:
        check_disk_of(path, error)
        is_not_regular = isinstance(error, input_files.NotAFileError)
        prefix = "" if is_not_regular else "cannot be looked at: "
        raise VideoUnreadable(path, f"{prefix}{error.strerror}") from error


def _repeats_sync(head: bytes, start: int, step: int) -> bool:
    sync_bytes = head[start : start + 5 * step : step]
    return len(sync_bytes) >= 2 and set(sync_bytes) == {0x47}


def _rejection_reason(head: bytes) -> str:
    head_text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    for signature, reason in _TEXT_SIGNATURES:
        if head_text.startswith(signature):
            return reason
    if head_text.startswith(b"<"):
        if b"<mpd" in head_text:
            return "is a playlist (DASH), not a video: give the media file itself"
        return "is a picture (SVG), not a video" if b"<svg" in head_text else "is an XML file"
    for signature, reason in _BINARY_SIGNATURES:
        if head.startswith(signature):
            return reason
    if head.startswith(b"RIFF"):
        kind = {b"WAVE": "an audio file (WAV)", b"WEBP": "a picture (WebP)"}.get(head[8:12])
        return f"is {kind or 'a RIFF file that is no AVI'}, not a video"
    if head[4:8] == b"ftyp":
        return "is a picture (HEIF or AVIF), not a video"
    if not set(head) & set(range(9)):
        return "is a text file, not a video"
    first_bytes = head[:12].hex(" ")
    return f"is no video container that is known here (it begins with the bytes {first_bytes})"


def _declared_end(file: BinaryIO, demuxer: str) -> int:
    """Return the end of the file in bytes as its container declares it; 0 if it does not."""
    if demuxer == MOV:
        return _end_of_mp4_boxes(file)
    file.seek(0)
    if demuxer == "avi":
        return int.from_bytes(file.read(8)[4:], "little") + 8
    if demuxer == "gif":
        return _end_of_gif(file)
    if demuxer == MATROSKA:
        file.read(4)
        header = _ebml_length(file)
        file.seek(header or 0, os.SEEK_CUR)
        if header is not None and file.read(4) == b"\x18\x53\x80\x67":
            length = _ebml_length(file)
            # a live recording does not know its length
            return 0 if length is None else file.tell() + length
    return 0


def _end_of_mp4_boxes(file: BinaryIO) -> int:
    end = 0
    while True:
        file.seek(end)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        # 0: up to the end of the file; other small numbers and odd names: not a box, but rubbish
        is_box = length >= 8 and len(head) >= 8 and head[4:8].isalnum()
        if not is_box or end + length >= 1 << 62:
            return end
        end += length


def _end_of_gif(file: BinaryIO) -> int:
    """Return the end of a GIF's last block, or one byte past the file if that block is missing."""
    head = file.read(13)
    _skip_colour_table(file, head[10])
    while (kind := file.read(1)) in (b"!", b","):
        if kind == b"!":
            file.seek(1, os.SEEK_CUR)
        else:
            _skip_colour_table(file, (file.read(9) or b"\0")[-1])
            file.seek(1, os.SEEK_CUR)
        while length := file.read(1):
            if length == b"\0":
                break
            file.seek(length[0], os.SEEK_CUR)
    # other blocks than these: rubbish, for the decoder to judge
    return 0 if kind else os.fstat(file.fileno()).st_size + 1


def _skip_colour_table(file: BinaryIO, flags: int) -> None:
    if flags & 128:
        file.seek(3 << (flags & 7) + 1, os.SEEK_CUR)


def _ebml_length(file: BinaryIO) -> int | None:
    first_byte = file.read(1)
    if not first_byte or first_byte[0] == 0:
        return None
    width = 9 - first_byte[0].bit_length()
    value = int.from_bytes(first_byte + file.read(width - 1), "big") & ((1 << 7 * width) - 1)
    return None if value == (1 << 7 * width) - 1 else value
