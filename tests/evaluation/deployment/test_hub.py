"""Upload to the Hub, against a server of this process."""

from __future__ import annotations

import _socket
import base64
import json
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import huggingface_hub
import pytest
from huggingface_hub import constants

from fewshot_i2v.errors import ExportError, UsageError
from fewshot_i2v.evaluation.deployment.card import model_card
from fewshot_i2v.evaluation.deployment.hub import HubPlan, upload_model
from tests.evaluation.deployment.conftest import Models

METHOD = ("frozen", "prototype", 0.05)
NAME = "me/gestures"


class Hub:
    """What a stand-in of the Hub was sent; `exists` and `status` say how it answers."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str, bytes]] = []
        self.tokens: set[str | None] = set()
        self.exists, self.status = False, 200
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                hub._record(self, b"")
                self._answer(200 if hub.exists else 404, {"id": NAME, "modelId": NAME})

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                hub._record(self, body)
                self._answer(hub.status, hub._reply(self.path, body))

            def _answer(self, status: int, content: object) -> None:
                data = json.dumps(content).encode()
                self.send_response(status)
                if status == 404:
                    self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def _record(self, handler: BaseHTTPRequestHandler, body: bytes) -> None:
        self.requests.append((handler.command, handler.path, body))
        self.tokens.add(handler.headers["Authorization"])

    def _reply(self, path: str, body: bytes) -> object:
        if path.endswith("/repos/create"):
            return {"url": f"{self.url}/{NAME}"}
        if "/preupload/" in path:
            names = [file["path"] for file in json.loads(body)["files"]]
            return {
                "files": [
                    {"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names
                ]
            }
        if "/commit/" in path:
            return {"commitUrl": f"{self.url}/{NAME}/commit/0", "commitOid": "0" * 40}
        return {"warnings": [], "errors": []}

    def body(self, part: str) -> bytes:
        (body,) = (
            body for method, path, body in self.requests if method == "POST" and part in path
        )
        return body

    def made_private(self) -> bool:
        """Whether a private repository was requested, in the words of any version."""
        created = json.loads(self.body("/repos/create"))
        return "private" in (created.get("visibility"), created.get("private") and "private")

    def uploaded(self) -> dict[str, bytes]:
        """Files of the commit by name."""
        lines = map(json.loads, self.body("/commit/").splitlines())
        files = [line["value"] for line in lines if line["key"] == "file"]
        return {file["path"]: base64.b64decode(file["content"]) for file in files}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    refuse = socket.socket.connect

    def connect(self: socket.socket, address: tuple[str, int]) -> None:
        """Reaches this machine, and nothing else."""
        (_socket.socket.connect if address[0] == "127.0.0.1" else refuse)(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)
    hub = Hub()
    thread = Thread(target=hub.server.serve_forever, daemon=True)
    thread.start()
    yield hub
    hub.server.shutdown()
    hub.server.server_close()
    thread.join()


def _yes(_: HubPlan) -> bool:
    return True


def test_model_and_card_are_uploaded_private(models: Models, hub: Hub) -> None:
    path, plans = models.path(*METHOD), []

    def confirm(plan: HubPlan) -> bool:
        plans.append(plan)
        return True

    address = upload_model(path, NAME, confirm=confirm, endpoint=hub.url)
    assert address == f"{hub.url}/{NAME}"
    assert hub.uploaded() == {
        path.name: path.read_bytes(),
        "README.md": model_card(path).encode(),
    }
    assert hub.made_private()
    assert hub.tokens == {"Bearer hf_test"}
    (plan,) = plans
    assert plan == HubPlan(NAME, False, False, (path.name, "README.md"))
    assert "a new repository, private" in plan.text


def test_nothing_is_made_or_sent_without_a_yes(models: Models, hub: Hub) -> None:
    hub.exists = True
    plans = []

    def refuse(plan: HubPlan) -> bool:
        plans.append(plan)
        return False

    assert upload_model(models.path(*METHOD), NAME, confirm=refuse, endpoint=hub.url) is None
    assert {method for method, _, _ in hub.requests} == {"GET"}
    assert "files of the same name are replaced" in plans[0].text


def test_public_is_said_and_done(models: Models, hub: Hub) -> None:
    path = models.path(*METHOD)
    upload_model(path, NAME, confirm=lambda p: "PUBLIC" in p.text, endpoint=hub.url, public=True)
    assert not hub.made_private()


def test_no_token_is_a_plain_error(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    with pytest.raises(UsageError, match=r"no token.*hf auth login"):
        upload_model(models.path(*METHOD), NAME, confirm=_yes)


def test_a_token_that_is_refused_is_a_plain_error(models: Models, hub: Hub) -> None:
    hub.status = 403
    with pytest.raises(ExportError, match=r"refused me/gestures \(403\): the token may not write"):
        upload_model(models.path(*METHOD), NAME, confirm=_yes, endpoint=hub.url)


def test_a_wrong_name_is_a_plain_error(models: Models, hub: Hub) -> None:
    with pytest.raises(UsageError, match="expected USER/NAME"):
        upload_model(models.path(*METHOD), "a b/c d", confirm=_yes, endpoint=hub.url)


def test_being_offline_is_a_plain_error(
    models: Models, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = hub.url.rpartition(":")[0] + ":9"
    with pytest.raises(ExportError, match="cannot be reached"):
        upload_model(models.path(*METHOD), NAME, confirm=_yes, endpoint=closed)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ExportError, match="HF_HUB_OFFLINE is set"):
        upload_model(models.path(*METHOD), NAME, confirm=_yes, endpoint=hub.url)
    assert hub.requests == []


def test_more_files_go_with_it(models: Models, hub: Hub, tmp_path: Path) -> None:
    onnx = tmp_path / "gestures.onnx"
    onnx.write_bytes(b"onnx")
    upload_model(models.path(*METHOD), NAME, confirm=_yes, more=[onnx], endpoint=hub.url)
    assert hub.uploaded()["gestures.onnx"] == b"onnx"
