"""A local sender of a video, over HTTP, as fast or as slow as a test wants."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@contextmanager
def http_stream(path: Path, *, stays_open: bool = False) -> Iterator[str]:
    """Sends a file to whoever asks; the address is yielded.

    Args:
        path: of the file.
        stays_open: send nothing more after it, and do not end.
    """
    ended = threading.Event()

    class Sender(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "video/mp2t")
            self.end_headers()
            try:
                self.wfile.write(path.read_bytes())
                self.wfile.flush()
            except OSError:  # the reader has gone
                return
            if stays_open:
                ended.wait(60)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Sender)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/live.ts"
    finally:
        ended.set()
        server.shutdown()
        server.server_close()
        thread.join()
