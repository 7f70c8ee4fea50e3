"""Weights come from the hub when they are not here, through a child: slow to start, and so are its tests."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tellapart.events import Event, Note
from tellapart.learn.backbones import Weights
from tellapart.learn.backbones_export import fetch_weights

pytestmark = pytest.mark.promise

FILES = {
    "config.json": json.dumps({"architecture": "resnet18", "pretrained_cfg": {"input_size": [3, 32, 32]}}).encode(),
    "model.safetensors": b"\x02\0\0\0\0\0\0\0{}",
}


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as huggingface_hub asks for."""

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        content = FILES.get(self.path.rsplit("/", 1)[-1], b"")
        self.send_response(200 if content and self.path.startswith("/timm/resnet18.") else 404)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", "a" * 40)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def nothing_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TELLAPART_WEIGHTS", raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    yield
    server.shutdown()
    thread.join()
    server.server_close()


def fetched(name: str) -> tuple[Weights | None, list[Event]]:
    steps, seen = fetch_weights(name), []
    while True:
        try:
            seen.append(next(steps))
        except StopIteration as stop:
            return stop.value, seen


@pytest.mark.usefixtures("nothing_at_hand", "hub")
def test_weights_are_fetched_once_into_the_hub_s_own_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    weights, _ = fetched("resnet18")
    assert weights is not None
    assert weights.name.startswith("resnet18.")
    assert (weights.folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    again, seen = fetched("resnet18")
    assert again == weights
    assert seen == []


@pytest.mark.usefixtures("nothing_at_hand", "hub")
def test_weights_that_the_hub_does_not_have_are_done_without() -> None:
    weights, seen = fetched("resnet34")
    assert weights is None
    assert [event.level for event in seen if isinstance(event, Note)] == ["warning"]


@pytest.mark.usefixtures("nothing_at_hand")
def test_a_hub_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        weights, seen = fetched("resnet18")
    assert weights is None
    assert isinstance(seen[-1], Note)
    assert time.monotonic() - began < 40  # about 10 seconds where the processors are free
