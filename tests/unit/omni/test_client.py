"""The client against a real server on this machine, which behaves as badly as servers can."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from http_client.addresses import is_on_this_machine
from http_client.outgoing import Outgoing
from omni import client as client_module
from omni.client import GeneratedImage, OmniClient
from omni.errors import (
    ConnectionLost,
    InvalidResponse,
    KeyRefused,
    ModelChanged,
    OmniError,
    ServerFailed,
    ServerOutOfMemory,
    ServerRefused,
    ServerTooSlow,
    ServerUnreachable,
)
from omni.failures import failure
from omni.jobs.jobs import Jobs
from settings import NetworkSettings
from tests.certificates import Authority
from tests.scripted_omni import (
    MODEL,
    Route,
    ScriptedOmni,
    answers,
    drips,
    hangs_up,
    never_ends,
    png,
    refuses,
)
from tests.unit.omni.conftest import FIELDS, generated
from tests.waiting import wait_until

pytestmark = pytest.mark.slow


def test_well_behaved_server(client: OmniClient, jobs: Jobs) -> None:
    image = generated(client, jobs)
    assert image.data == png(seed=5)
    assert (image.compute_s, image.peak_memory_mb) == (0.05, 512.0)
    assert jobs.ask(client.served_model()).id == MODEL
    assert jobs.ask(client.version()) == "0.30.0"
    assert jobs.ask(client.health()).latency_ms > 0


def test_edit_sends_every_image_and_every_field(client: OmniClient, omni: ScriptedOmni, jobs: Jobs) -> None:
    for n_images in (1, 2):
        jobs.ask(client.edit(FIELDS, [png(seed=n) for n in range(n_images)], 64 * 64))
        body: bytes = omni.seen[-1][2]["body"]
        assert body.count(b"\x89PNG") == n_images
        assert b'name="prompt"\r\n\r\na\r\n' in body
        assert b'name="seed"\r\n\r\n5\r\n' in body


@pytest.mark.parametrize(
    ("route", "error", "text"),
    [
        (answers(b"<html>hello</html>", Content_Type="text/html"), InvalidResponse, "Check OMNI_URL"),
        (answers(b""), InvalidResponse, "Check OMNI_URL"),
        (answers(b"[1, 2]"), InvalidResponse, "Check OMNI_URL"),
        (answers(b"[" * 100_000), InvalidResponse, "Check OMNI_URL"),
        (answers(b"\xff\xfe"), InvalidResponse, "Check OMNI_URL"),
        (answers(b'{"data": []}'), InvalidResponse, "has no image"),
        (answers(b"{}"), InvalidResponse, "has no image"),
        (answers(b'{"data": [{}]}'), InvalidResponse, "has no image"),
        (answers(b'{"data": [{"b64_json": "!!!"}]}'), InvalidResponse, "Check OMNI_URL"),
        (answers(b'{"data": [{"b64_json": "abcde"}]}'), InvalidResponse, "Check OMNI_URL"),
        (answers(b"x" * 2_000_000), InvalidResponse, "longer than"),
        (never_ends, InvalidResponse, "longer than"),
        (answers(b"\0\1", Content_Encoding="br"), InvalidResponse, "in an unsupported compression"),
        (answers(b"\x1f\x8b broken", Content_Encoding="gzip"), InvalidResponse, "damaged compressed data"),
        (answers(gzip.compress(b" " * 3_000_000), Content_Encoding="gzip"), InvalidResponse, "longer than"),
        (answers(b'{"data": [{"url": "http://169.254.169.254/latest"}]}'), InvalidResponse, "(169.254.169.254), which"),
        (answers(b'{"data": [{"url": "http://127.0.0.1:1/a.png"}]}'), InvalidResponse, "on another server"),
        (answers(b"", 302, Location="http://169.254.169.254/"), InvalidResponse, "redirects"),
        (answers(b"", 307, Location="/v1/images/generations"), InvalidResponse, "redirects"),
        (refuses(400, "size must be WxH"), ServerRefused, "HTTP 400): size must be WxH"),
        (refuses(400, "Model mismatch: request specifies 'a' but server is running 'b'."), ModelChanged, "another"),
        (refuses(401, "no"), KeyRefused, "requires a key (HTTP 401): no. Set OMNI_API_KEY"),
        (answers(b'{"detail": "Not Found"}', 404), ServerRefused, "HTTP 404): Not Found"),
        (refuses(429, "slow down"), ServerRefused, "too many requests (HTTP 429): slow down. Try again"),
        (answers(b"<html>Bad gateway</html>", 502), ServerFailed, "HTTP 502), and gave no reason"),
        (answers(b"<html><title>Tunnel asleep</title></html>", 502), ServerFailed, "HTTP 502): Tunnel asleep."),
        (answers(b"", 504), ServerFailed, "may still be generating"),
        (refuses(403, "The content policy forbids that"), ServerRefused, "forbids this (HTTP 403): The content policy"),
        (answers(b"", 403), ServerRefused, "Set OMNI_API_KEY"),
        (answers(b'{"detail": [{"loc": ["body", "size"], "msg": "is odd"}]}', 422), ServerRefused, "size: is odd"),
        (answers(b"no such thing", 405), ServerRefused, "(HTTP 405): no such thing. Is it a vLLM-Omni server?"),
        (answers(b'{"error": {"message": "It is broken."}}'), ServerFailed, "responded with an error: It is broken."),
        (answers(b'{"data": [{"error": {"message": "NSFW"}}]}'), ServerFailed, "responded with an error: NSFW."),
        (answers(b'{"error": {"message": "CUDA out of memory"}}'), ServerOutOfMemory, "gpu_status"),
        (
            refuses(500, "Image generation failed: boom"),
            ServerFailed,
            "HTTP 500): Image generation failed: boom",
        ),
        (refuses(503, "not ready"), ServerFailed, "server_health"),
        (refuses(500, "CUDA out of memory. Tried to allocate 2 GiB"), ServerOutOfMemory, "Try reducing resolution"),
        (refuses(500, "[enforce fail] DefaultCPUAllocator: can't allocate memory"), ServerOutOfMemory, "gpu_status"),
        (refuses(500, "ScratchPadManager: aligned_alloc failed for size 9"), ServerOutOfMemory, "gpu_status"),
        (refuses(500, "std::bad_alloc"), ServerOutOfMemory, "gpu_status"),
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


@pytest.mark.parametrize("slow", [drips, lambda request, fields: time.sleep(30)])
def test_answer_that_does_not_come_in_time(omni: ScriptedOmni, jobs: Jobs, slow: Route) -> None:
    client = OmniClient(omni.url, timeout_s=0.2)
    omni.script(slow)
    begun_s = time.monotonic()
    with pytest.raises(ServerTooSlow, match=r"within 0.2 s.*OMNI_TIMEOUT"):
        generated(client, jobs)
    assert time.monotonic() - begun_s < 15
    jobs.ask(client.close())


@pytest.mark.parametrize(
    ("url", "text"),
    [
        (
            "http://127.0.0.1:1",
            "Cannot connect to vLLM server at http://127.0.0.1:1. Is the container running? Check with "
            "`server_health` tool.",
        ),
        ("http://nowhere.invalid:6655", "the host name is unknown. Check OMNI_URL"),
        ("https://127.0.0.1:1", "Cannot connect to vLLM server at https://127.0.0.1:1."),
    ],
)
def test_nobody_answers(jobs: Jobs, url: str, text: str) -> None:
    client = OmniClient(url, timeout_s=5.0)
    with pytest.raises(ServerUnreachable) as caught:
        generated(client, jobs)
    assert text in str(caught.value)
    jobs.ask(client.close())


@pytest.mark.parametrize("path", ["", "/", "/v1", "/v1/", "//v1//", "/v1/images/generations"])
def test_address_may_end_with_the_version_or_an_endpoint(omni: ScriptedOmni, jobs: Jobs, path: str) -> None:
    client = OmniClient(omni.url + path, timeout_s=5.0)
    assert client.url == omni.url
    assert generated(client, jobs).data == png(seed=5)
    assert jobs.ask(client.health()).is_well
    assert jobs.ask(client.served_model()).id == MODEL
    jobs.ask(client.close())


def test_certificate_is_told_apart_from_a_server_that_is_not_there(
    omni: ScriptedOmni, jobs: Jobs, tmp_path: Path
) -> None:
    authority = Authority(tmp_path)
    omni.socket = authority.server_context("localhost").wrap_socket(omni.socket, server_side=True)
    url = omni.url.replace("http://127.0.0.1", "https://localhost")
    with pytest.raises(ServerUnreachable, match=r"certificate .* is not trusted.*VLLM_CA_FILE") as caught:
        generated(OmniClient(url, 5.0), jobs)
    assert not caught.value.not_begun
    trusting = OmniClient(url, 5.0, outgoing=Outgoing(NetworkSettings(ca_file=str(authority.file))))
    assert generated(trusting, jobs).data == png(seed=5)
    jobs.ask(trusting.close())


@pytest.mark.parametrize("refusal", [refuses(429, "slow down"), refuses(503, "loading"), answers(b"", 503)])
def test_request_is_sent_again_where_the_server_has_not_begun(
    client: OmniClient, omni: ScriptedOmni, jobs: Jobs, refusal: Route
) -> None:
    omni.script(refusal, refusal, omni.honest)
    assert generated(client, jobs).data == png(seed=5)
    assert len(omni.generations()) == 3
    omni.script(refusal)
    with pytest.raises(OmniError):
        generated(client, jobs)
    assert len(omni.generations()) == 6


@pytest.mark.parametrize(
    "route", [*(answers(b"", status) for status in (408, 500, 502, 504, 529)), hangs_up, answers(b"{}"), answers(b"")]
)
def test_request_is_never_sent_again_where_the_image_may_be_in_the_making(
    client: OmniClient, omni: ScriptedOmni, jobs: Jobs, route: Route
) -> None:
    omni.script(route)
    with pytest.raises(OmniError):
        generated(client, jobs)
    assert len(omni.generations()) == 1


def test_server_that_asks_for_a_long_pause_is_not_waited_for(
    client: OmniClient, omni: ScriptedOmni, jobs: Jobs
) -> None:
    omni.script(answers(b"", 429, Retry_After="3600"))
    with pytest.raises(ServerRefused, match="too many requests"):
        generated(client, jobs)
    assert len(omni.generations()) == 1


def test_refused_connection_is_tried_again(jobs: Jobs) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    client = OmniClient(f"http://127.0.0.1:{port}", 5.0)

    async def come_up_later() -> GeneratedImage:
        asked = asyncio.ensure_future(client.generate(FIELDS, 64 * 64))
        await asyncio.sleep(0.1)
        late.append(ScriptedOmni(port=port))
        await asyncio.to_thread(late[0].__enter__)
        return await asked

    late: list[ScriptedOmni] = []
    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(client_module, "PAUSES_S", (0.5, 0.5))
            assert jobs.ask(come_up_later()).data == png(seed=5)
    finally:
        late[0].__exit__()
        jobs.ask(client.close())


@pytest.mark.parametrize("body", [b"[]", b"{}", b"null", b"7", b'{"data": []}', b'{"data": [[]]}', b'{"data": "a"}'])
def test_list_without_a_model_says_so(client: OmniClient, omni: ScriptedOmni, jobs: Jobs, body: bytes) -> None:
    omni.script(answers(body), path="/v1/models")
    with pytest.raises(ServerRefused, match="names no model"):
        jobs.ask(client.served_model())


@pytest.mark.parametrize(("status", "is_well"), [(200, True), (204, True), (403, False), (404, False), (405, False)])
def test_server_without_a_way_to_say_that_it_is_well(
    client: OmniClient, omni: ScriptedOmni, jobs: Jobs, status: int, is_well: bool
) -> None:
    omni.script(answers(b"", status), path="/health")
    assert jobs.ask(client.health()).is_well is is_well


@pytest.mark.parametrize("status", [401, 500, 503])
def test_server_that_says_it_is_not_well(client: OmniClient, omni: ScriptedOmni, jobs: Jobs, status: int) -> None:
    omni.script(answers(b"", status), path="/health")
    with pytest.raises(OmniError, match=f"HTTP {status}"):
        jobs.ask(client.health())


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
    wait_until(lambda: closed)
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
