"""Images by URL through the real server, from a real web server that behaves as badly as they come."""

from __future__ import annotations

import gzip
import http.server
import threading
import time
from collections.abc import Iterator

import pytest

from tests.e2e.images import drawn, png
from tests.e2e.server_process import ServerProcess

MAX_BYTES = 1_000_000
FETCH_TIMEOUT_S = 3


class BadWeb(http.server.ThreadingHTTPServer):
    """Serves `/good.png`, and under other paths what hostile servers do; `asked` has the paths of all requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.asked: list[str] = []
        self.stopped = threading.Event()

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients hang up on purpose here."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: BadWeb

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        name = self.path.partition(".")[0].strip("/").partition("-")[0]
        getattr(self, f"_{name}")()

    def log_message(self, format: str, *arguments: object) -> None:
        """Keeps quiet."""

    def _answer(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for key, value in {"Content_Length": str(len(body)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def _good(self) -> None:
        self._answer(png(drawn()), Content_Type="image/png")

    def _moved(self) -> None:
        self._answer(b"", 302, Location="/good.png")

    def _loop(self) -> None:
        self._answer(b"", 302, Location=self.path)

    def _inside(self) -> None:
        """Leads to another port of this machine, which the settings do not name."""
        self._answer(b"", 302, Location=f"http://127.0.0.1:{self.server.server_port + 1}/secret")

    def _metadata(self) -> None:
        self._answer(b"", 307, Location="http://169.254.169.254/latest/meta-data/")

    def _file(self) -> None:
        self._answer(b"", 302, Location="file:///etc/passwd")

    def _drip(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "100000")
        self.end_headers()
        while not self.server.stopped.wait(1):
            self.wfile.write(b"x")

    def _endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        while not self.server.stopped.is_set():
            self.wfile.write(bytes(1 << 16))

    def _lying(self) -> None:
        self._answer(b"x", Content_Length=str(10**12))

    def _bomb(self) -> None:
        self._answer(gzip.compress(bytes(50 * MAX_BYTES)), Content_Encoding="gzip")

    def _page(self) -> None:
        self._answer(b"<html>secret</html>", Content_Type="image/png")

    def _broken(self) -> None:
        self._answer(png(drawn())[:200], Content_Length="100000")

    def _missing(self) -> None:
        self._answer(b"", 404)


@pytest.fixture
def web() -> Iterator[BadWeb]:
    """A running web server, stopped after the test."""
    with BadWeb() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield server
        server.stopped.set()
        server.shutdown()
        thread.join()


def test_hostile_web_servers_spoil_only_their_own_images(web: BadWeb, model: dict[str, str]) -> None:
    here, two_names = f"http://127.0.0.1:{web.server_port}", f"http://localhost:{web.server_port}"
    bad = {
        f"{here}/inside": "not on the public internet",
        f"{here}/metadata": "not on the public internet",
        f"{here}/file": "only http, https, data and file URLs are",
        f"{here}/loop": "more than 5 times",
        f"{here}/drip": f"within {FETCH_TIMEOUT_S} s",
        f"{here}/endless": "VLLM_MAX_IMAGE_BYTES",
        f"{here}/lying": "VLLM_MAX_IMAGE_BYTES",
        f"{here}/bomb": "VLLM_MAX_IMAGE_BYTES",
        f"{here}/page": "not an image",
        f"{here}/broken": "closed the connection",
        f"{here}/missing": "HTTP status 404",
        f"http://127.0.0.2:{web.server_port}/good.png": "not on the public internet",
        f"http://[::ffff:127.0.0.1]:{web.server_port}/good.png": "not on the public internet",
        f"http://127.0.0.1.:{web.server_port + 1}/good.png": "not on the public internet",
    }
    good = [f"{here}/good.png", f"{here}/moved", f"{two_names}/good.png"]
    environment = {
        **model,
        "VLLM_ALLOWED_MEDIA_HOSTS": f"127.0.0.1:{web.server_port},localhost:{web.server_port}",
        "VLLM_MEDIA_FETCH_TIMEOUT": str(FETCH_TIMEOUT_S),
        "VLLM_MAX_IMAGE_BYTES": str(MAX_BYTES),
    }
    with ServerProcess(environment) as server:
        arguments = {"image_paths": [*bad, *good], "query": "What is in this image?", "check_relevance": False}
        results = server.result("analyze_images_with_query", arguments)["results"]
        for item, words in zip(results, bad.values(), strict=False):
            assert words in item["error"]
            assert "secret" not in item["error"].replace("/secret", "")
        assert [item["error"] for item in results[len(bad) :]] == [None] * len(good)
        assert len({item["analysis"] for item in results[len(bad) :]}) == 1
        started_s = time.monotonic()
        late = server.result(
            "analyze_images_with_query", {**arguments, "image_paths": [f"{here}/drip"], "timeout_s": 0.5}
        )
        assert time.monotonic() - started_s < FETCH_TIMEOUT_S
        assert "time was up before this image was read" in late["results"][0]["error"]
        server.assert_serves()
    assert "/secret" not in web.asked
