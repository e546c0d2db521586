"""A small RTSP server that sends one video to one reader, and may lose packets on the way."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import av

_HOST = "127.0.0.1"
_DESCRIPTION = (
    f"v=0\r\no=- 0 0 IN IP4 {_HOST}\r\ns=test\r\nc=IN IP4 {_HOST}\r\nt=0 0\r\n"
    "m=video 0 RTP/AVP 32\r\na=control:track\r\n"  # 32 is MPEG video
)
_SECONDS_PER_PACKET = 0.002
Send = Callable[[bytes], object]


class RtspServer:
    """Answers the requests of one reader, and sends it the pictures of a file.

    Args:
        path: of a file with MPEG-2 video.
        lost: numbers of the RTP packets that do not arrive, from 1.
        stays_open: send nothing more after the file, and do not end.
        over_tcp: refuse UDP: packets come between the answers.

    Attributes:
        requests: methods of the requests so far.
    """

    def __init__(
        self, path: Path, *, lost: Collection[int], stays_open: bool, over_tcp: bool
    ) -> None:
        self._path, self._lost = path, lost
        self._stays_open, self._over_tcp = stays_open, over_tcp
        self._listener = socket.create_server((_HOST, 0))
        self._sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self.requests: list[str] = []
        self.address = f"rtsp://{_HOST}:{self._listener.getsockname()[1]}/live"
        self._start(self._serve)

    def close(self) -> None:
        """Ends the server."""
        self._ended.set()
        self._listener.close()
        for thread in self._threads:
            thread.join(timeout=5)
        self._sender.close()

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        self._threads.append(threading.Thread(target=target, args=arguments, daemon=True))
        self._threads[-1].start()

    def _serve(self) -> None:
        self._listener.settimeout(0.1)
        while not self._ended.is_set():
            try:
                reader, _ = self._listener.accept()
            except OSError:
                continue
            with reader, reader.makefile("rb") as lines, suppress(OSError):  # the reader has gone
                self._answer(reader, lines)
            return

    def _answer(self, reader: socket.socket, lines: Iterator[bytes]) -> None:
        reader.settimeout(60)
        send: Send = reader.sendall
        head: list[str] = []
        for line in lines:
            if line.startswith(b"$"):  # what a reader over TCP says of its packets
                return
            if line.strip():
                head.append(line.decode())
                continue
            method = head[0].split()[0]
            fields = {k.lower(): v.strip() for k, _, v in (h.partition(":") for h in head[1:])}
            self.requests.append(method)
            status, extra, body = "200 OK", "Session: 1\r\n", ""
            if method == "DESCRIBE":
                extra, body = "Content-Type: application/sdp\r\n", _DESCRIPTION
            elif method == "SETUP" and self._over_tcp == ("TCP" in fields["transport"]):
                send, transport = self._transport(reader, fields["transport"])
                extra += f"Transport: {transport}\r\n"
            elif method == "SETUP":
                status = "461 Unsupported Transport"
            answer = f"RTSP/1.0 {status}\r\nCSeq: {fields['cseq']}\r\n{extra}"
            reader.sendall(f"{answer}Content-Length: {len(body)}\r\n\r\n{body}".encode())
            if method == "PLAY":
                self._start(self._send, reader, send)
            if method == "TEARDOWN":
                return
            head = []

    def _transport(self, reader: socket.socket, wanted: str) -> tuple[Send, str]:
        if self._over_tcp:
            return (
                lambda packet: reader.sendall(b"$\0" + len(packet).to_bytes(2, "big") + packet),
                "RTP/AVP/TCP;unicast;interleaved=0-1",
            )
        port = int(wanted.partition("client_port=")[2].partition("-")[0])
        self._sender.bind((_HOST, 0))
        own = self._sender.getsockname()[1]
        return (
            lambda packet: self._sender.sendto(packet, (_HOST, port)),
            f"RTP/AVP;unicast;client_port={port}-{port + 1};server_port={own}-{own + 1}",
        )

    def _send(self, reader: socket.socket, send: Send) -> None:
        """Sends what FFmpeg makes of the file, packet by packet."""
        with (
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made,
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as reports,
        ):
            for relay in (made, reports):
                relay.bind((_HOST, 0))
            made.setblocking(False)
            ports = made.getsockname()[1], reports.getsockname()[1]
            target = f"rtp://{_HOST}:{ports[0]}?rtcpport={ports[1]}&pkt_size=1000"
            number = 0
            with av.open(str(self._path)) as file, av.open(target, "w", format="rtp") as out:
                stream = out.add_stream_from_template(file.streams.video[0])
                for packet in file.demux(video=0):
                    if packet.dts is None or self._ended.is_set():
                        break
                    packet.stream = stream
                    out.mux(packet)
                    time.sleep(_SECONDS_PER_PACKET)
                    while (data := _received(made)) is not None:
                        number += 1
                        if number not in self._lost:
                            with suppress(OSError):  # the reader has gone
                                send(data)
        if self._stays_open:
            self._ended.wait(60)
        with suppress(OSError):  # the reader has gone
            reader.shutdown(socket.SHUT_RDWR)


def _received(relay: socket.socket) -> bytes | None:
    try:
        return relay.recv(65536)
    except BlockingIOError:
        return None


@contextmanager
def rtsp_stream(
    path: Path,
    *,
    lost: Collection[int] = (),
    stays_open: bool = False,
    over_tcp: bool = False,
) -> Iterator[str]:
    """Sends a file with MPEG-2 video to the first reader; the address is yielded."""
    server = RtspServer(path, lost=lost, stays_open=stays_open, over_tcp=over_tcp)
    try:
        yield server.address
    finally:
        server.close()


@contextmanager
def udp_stream(path: Path, *, lost: Collection[int] = ()) -> Iterator[str]:
    """Sends a file of MPEG-TS by UDP, in packets as encoders send them, without an end."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind((_HOST, 0))
        port = probe.getsockname()[1]
    ended = threading.Event()

    def _send() -> None:
        data, number = path.read_bytes(), 0
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            while not _is_bound(port) and not ended.wait(0.01):
                pass
            for start in range(0, len(data), 7 * 188):
                number += 1
                if number not in lost:
                    sender.sendto(data[start : start + 7 * 188], (_HOST, port))
                ended.wait(_SECONDS_PER_PACKET)

    thread = threading.Thread(target=_send, daemon=True)
    thread.start()
    try:
        yield f"udp://{_HOST}:{port}"
    finally:
        ended.set()
        thread.join()


def _is_bound(port: int) -> bool:
    """Whether somebody listens, by binding the port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((_HOST, port))
        except OSError:
            return True
    return False
