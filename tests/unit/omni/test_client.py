"""The client against a real server on this machine, which behaves as badly as servers can."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from omni.client import OmniClient, Picture, failure, is_on_this_machine
from omni.errors import (
    ConnectionLost,
    ModelChanged,
    OmniError,
    ServerFailed,
    ServerOutOfMemory,
    ServerRefused,
    ServerTooSlow,
    ServerUnreachable,
    UnusableAnswer,
)
from omni.jobs import Jobs
from tests.scripted_omni import (
    MODEL,
    Route,
    ScriptedOmni,
    answers,
    drips,
    hangs_up,
    never_ends,
    pictures_json,
    png,
    refuses,
)

FIELDS: dict[str, Any] = {"prompt": "a", "size": "64x64", "seed": 5}


@pytest.fixture
def client(omni: ScriptedOmni, jobs: Jobs) -> Iterator[OmniClient]:
    made = OmniClient(omni.url, timeout_s=5.0)
    yield made
    jobs.ask(made.close())


def generated(client: OmniClient, jobs: Jobs) -> Picture:
    return jobs.ask(client.generate(FIELDS, 64 * 64))


def test_well_behaved_server(client: OmniClient, jobs: Jobs) -> None:
    picture = generated(client, jobs)
    assert picture.data == png(seed=5)
    assert (picture.compute_s, picture.peak_memory_mb) == (0.05, 512.0)
    assert jobs.ask(client.served_model()).id == MODEL
    assert jobs.ask(client.version()) == "0.30.0"
    assert jobs.ask(client.latency_ms()) > 0


def test_edit_sends_every_picture_and_every_field(client: OmniClient, omni: ScriptedOmni, jobs: Jobs) -> None:
    for n_images in (1, 2):
        jobs.ask(client.edit(FIELDS, [png(seed=n) for n in range(n_images)], 64 * 64))
        body: bytes = omni.seen[-1][2]["body"]
        assert body.count(b"\x89PNG") == n_images
        assert b'name="prompt"\r\n\r\na\r\n' in body
        assert b'name="seed"\r\n\r\n5\r\n' in body


@pytest.mark.parametrize(
    ("route", "error", "text"),
    [
        (answers(b"<html>hello</html>", Content_Type="text/html"), UnusableAnswer, "Check OMNI_URL"),
        (answers(b""), UnusableAnswer, "Check OMNI_URL"),
        (answers(b"[1, 2]"), UnusableAnswer, "Check OMNI_URL"),
        (answers(b"[" * 100_000), UnusableAnswer, "Check OMNI_URL"),
        (answers(b"\xff\xfe"), UnusableAnswer, "Check OMNI_URL"),
        (answers(b'{"data": []}'), UnusableAnswer, "without a picture"),
        (answers(b"{}"), UnusableAnswer, "without a picture"),
        (answers(b'{"data": [{}]}'), UnusableAnswer, "without a picture"),
        (answers(b'{"data": [{"b64_json": "!!!"}]}'), UnusableAnswer, "Check OMNI_URL"),
        (answers(b'{"data": [{"b64_json": "abc"}]}'), UnusableAnswer, "Check OMNI_URL"),
        (answers(b"x" * 2_000_000), UnusableAnswer, "longer than"),
        (never_ends, UnusableAnswer, "longer than"),
        (answers(pictures_json(png()), Content_Encoding="gzip"), UnusableAnswer, "compressed"),
        (answers(b"", 302, Location="http://169.254.169.254/"), UnusableAnswer, "redirects"),
        (answers(b"", 307, Location="/v1/images/generations"), UnusableAnswer, "redirects"),
        (refuses(400, "size must be WxH"), ServerRefused, "HTTP 400): size must be WxH"),
        (refuses(400, "Model mismatch: request specifies 'a' but server is running 'b'."), ModelChanged, "another"),
        (refuses(401, "no"), ServerRefused, "OMNI_API_KEY"),
        (answers(b'{"detail": "Not Found"}', 404), ServerRefused, "HTTP 404): Not Found"),
        (refuses(429, "slow down"), ServerRefused, "too many requests (HTTP 429): slow down. Try again"),
        (answers(b"<html>Bad gateway</html>", 502), ServerFailed, "HTTP 502) and gave no reason"),
        (refuses(500, "Image generation failed: boom"), ServerFailed, "HTTP 500): Image generation failed: boom"),
        (refuses(503, "not ready"), ServerFailed, "server_health"),
        (refuses(500, "CUDA out of memory. Tried to allocate 2 GiB"), ServerOutOfMemory, "Try reducing resolution"),
        (refuses(500, "[enforce fail] DefaultCPUAllocator: can't allocate memory"), ServerOutOfMemory, "gpu_status"),
        (hangs_up, ConnectionLost, "was lost"),
        (answers(b"cut off", Content_Length="100"), ConnectionLost, "was lost"),
    ],
)
def test_server_that_misbehaves(
    client: OmniClient, omni: ScriptedOmni, jobs: Jobs, route: Route, error: type[OmniError], text: str
) -> None:
    def and_close(request: Any, fields: Any) -> None:
        request.close_connection = True
        route(request, fields)

    omni.script(and_close)
    with pytest.raises(error) as caught:
        generated(client, jobs)
    assert type(caught.value) is error
    assert text in str(caught.value)
    assert len(str(caught.value)) < 500
    omni.scripts.clear()
    assert jobs.ask(client.served_model()).id == MODEL


def test_question_is_asked_again_where_the_connection_was_closed(
    client: OmniClient, omni: ScriptedOmni, jobs: Jobs
) -> None:
    omni.script(hangs_up, omni.honest, path="/v1/models")
    assert jobs.ask(client.served_model()).id == MODEL


@pytest.mark.parametrize("slow", [drips, lambda request, fields: time.sleep(2)])
def test_answer_that_does_not_come_in_time(omni: ScriptedOmni, jobs: Jobs, slow: Route) -> None:
    client = OmniClient(omni.url, timeout_s=0.2)
    omni.script(slow)
    begun_s = time.monotonic()
    with pytest.raises(ServerTooSlow, match=r"within 0.2 s.*OMNI_TIMEOUT"):
        generated(client, jobs)
    assert time.monotonic() - begun_s < 1.5
    jobs.ask(client.close())


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "http://nowhere.invalid:6655"])
def test_nobody_answers(jobs: Jobs, url: str) -> None:
    client = OmniClient(url, timeout_s=5.0)
    with pytest.raises(ServerUnreachable) as caught:
        generated(client, jobs)
    assert str(caught.value) == (
        f"Cannot connect to vLLM server at {url}. Is the container running? Check with `server_health` tool."
    )
    jobs.ask(client.close())


def test_key_is_sent_and_never_told(omni: ScriptedOmni, jobs: Jobs) -> None:
    keys = []

    def look(request: Any, fields: Any) -> None:
        keys.append(request.headers["Authorization"])
        request.answer(b'{"error": {"message": "no"}}', 403)

    client = OmniClient(omni.url, 5.0, api_key="sk-secret")
    omni.script(look)
    with pytest.raises(ServerRefused) as caught:
        generated(client, jobs)
    assert keys == ["Bearer sk-secret"]
    assert "sk-secret" not in str(caught.value)
    jobs.ask(client.close())


def test_proxies_of_the_environment_are_not_used(
    monkeypatch: pytest.MonkeyPatch, client: OmniClient, jobs: Jobs
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert generated(client, jobs).data


def test_cancelling_closes_the_connection(client: OmniClient, omni: ScriptedOmni, jobs: Jobs) -> None:
    closed = []

    def wait(request: Any, fields: Any) -> None:
        request.connection.settimeout(5)
        closed.append(request.connection.recv(1))

    omni.script(wait)

    async def begin_and_cancel() -> None:
        task = asyncio.ensure_future(client.generate(FIELDS, 64 * 64))
        while not omni.seen:
            await asyncio.sleep(0.005)
        task.cancel()

    jobs.ask(begin_and_cancel())
    until_s = time.monotonic() + 5
    while not closed and time.monotonic() < until_s:
        time.sleep(0.005)
    assert closed == [b""]


def test_what_a_server_says_is_passed_on_without_addresses_paths_and_line_breaks() -> None:
    message = "at 0x7f12ab in /srv/app/x.py:\n\x1b[31m" + "y" * 900
    said = str(failure(500, json.dumps({"error": {"message": message}}).encode()))
    assert "0x7f" not in said
    assert "/srv" not in said
    assert "\n" not in said
    assert "\x1b" not in said
    assert len(said) < 400


@pytest.mark.parametrize(
    ("url", "here"),
    [
        ("http://localhost:1", True),
        ("http://127.0.0.1", True),
        ("http://127.8.9.10:80", True),
        ("http://[::1]:80", True),
        ("http://192.0.2.7", False),
        ("http://gpu.example.org:6655", False),
    ],
)
def test_whether_a_server_is_on_this_machine(url: str, here: bool) -> None:
    assert is_on_this_machine(url) is here
