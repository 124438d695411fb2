"""The client against a real server on this machine, which behaves as badly as servers can."""

from __future__ import annotations

import asyncio
import base64
import gzip
import io
import json
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from http_client.outgoing import Outgoing
from omni import attempts
from omni.client import OmniClient, Picture, is_on_this_machine
from omni.errors import (
    ConnectionLost,
    KeyRefused,
    ModelChanged,
    OmniError,
    ServerFailed,
    ServerOutOfMemory,
    ServerRefused,
    ServerTooSlow,
    ServerUnreachable,
    UnusableAnswer,
)
from omni.failures import failure
from omni.jobs import Jobs
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
    assert jobs.ask(client.health()).latency_ms > 0


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
        (answers(b'{"data": [{"b64_json": "abcde"}]}'), UnusableAnswer, "Check OMNI_URL"),
        (answers(b"x" * 2_000_000), UnusableAnswer, "longer than"),
        (never_ends, UnusableAnswer, "longer than"),
        (answers(b"\0\1", Content_Encoding="br"), UnusableAnswer, "in a compression that is not read"),
        (answers(b"\x1f\x8b broken", Content_Encoding="gzip"), UnusableAnswer, "damaged compressed data"),
        (answers(gzip.compress(b" " * 3_000_000), Content_Encoding="gzip"), UnusableAnswer, "longer than"),
        (answers(b'{"data": [{"url": "http://169.254.169.254/latest"}]}'), UnusableAnswer, "(169.254.169.254), which"),
        (answers(b'{"data": [{"url": "http://127.0.0.1:1/a.png"}]}'), UnusableAnswer, "on another server"),
        (answers(b"", 302, Location="http://169.254.169.254/"), UnusableAnswer, "redirects"),
        (answers(b"", 307, Location="/v1/images/generations"), UnusableAnswer, "redirects"),
        (refuses(400, "size must be WxH"), ServerRefused, "HTTP 400): size must be WxH"),
        (refuses(400, "Model mismatch: request specifies 'a' but server is running 'b'."), ModelChanged, "another"),
        (refuses(401, "no"), KeyRefused, "asks for a key (HTTP 401): no. Set OMNI_API_KEY"),
        (answers(b'{"detail": "Not Found"}', 404), ServerRefused, "HTTP 404): Not Found"),
        (refuses(429, "slow down"), ServerRefused, "too many requests (HTTP 429): slow down. Try again"),
        (answers(b"<html>Bad gateway</html>", 502), ServerFailed, "HTTP 502), and gave no reason"),
        (answers(b"<html><title>Tunnel asleep</title></html>", 502), ServerFailed, "HTTP 502): Tunnel asleep."),
        (answers(b"", 504), ServerFailed, "may still be in the making"),
        (refuses(403, "The content policy forbids that"), ServerRefused, "forbids this (HTTP 403): The content policy"),
        (answers(b"", 403), ServerRefused, "Set OMNI_API_KEY"),
        (answers(b'{"detail": [{"loc": ["body", "size"], "msg": "is odd"}]}', 422), ServerRefused, "size: is odd"),
        (answers(b"no such thing", 405), ServerRefused, "(HTTP 405): no such thing. Is it a vLLM-Omni server?"),
        (answers(b'{"error": {"message": "It is broken."}}'), ServerFailed, "answered with an error: It is broken."),
        (answers(b'{"data": [{"error": {"message": "NSFW"}}]}'), ServerFailed, "answered with an error: NSFW."),
        (answers(b'{"error": {"message": "CUDA out of memory"}}'), ServerOutOfMemory, "gpu_status"),
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


@pytest.mark.parametrize(
    ("url", "text"),
    [
        (
            "http://127.0.0.1:1",
            "Cannot connect to vLLM server at http://127.0.0.1:1. Is the container running? Check with "
            "`server_health` tool.",
        ),
        ("http://nowhere.invalid:6655", "nobody knows a host of that name. Check OMNI_URL"),
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


def rows(*pictures: Any) -> Route:
    return answers(json.dumps({"data": list(pictures)}).encode())


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def as_format(name: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(buffer, name)
    return buffer.getvalue()


GOOD = encoded(png(seed=5))
URL_SAFE = encoded(png((64, 64), 0xFBEFFF)).replace("+", "-").replace("/", "_").rstrip("=")


@pytest.mark.parametrize(
    "route",
    [
        rows({"b64_json": f"data:image/png;base64,{GOOD}"}),
        rows({"b64_json": "\n".join(GOOD[at : at + 76] for at in range(0, len(GOOD), 76)) + "\r\n"}),
        rows({"b64_json": GOOD.rstrip("=")}),
        rows({"b64_json": None, "url": f"data:image/png;base64,{GOOD}"}),
        rows({"url": f"DATA:image/png;charset=utf-8;base64,{GOOD}"}),
        rows({"url": "/files/a.png"}),
        rows({"b64_json": "", "url": "files/a.png", "image_url": {"url": "/files/a.png"}}),
        rows(GOOD),
        rows(None, {"b64_json": GOOD}, {"b64_json": encoded(png())}),
        rows({"b64_json": GOOD, "revised_prompt": 7, "url": {"a": 1}}),
        answers(json.dumps({"created": "now", "data": {"b64_json": GOOD}, "metrics": [1]}).encode()),
        answers(json.dumps({"data": [{"b64_json": GOOD}], "metrics": {"stage_durations": "fast"}}).encode()),
        answers(json.dumps({"data": [{"b64_json": GOOD}], "error": {"message": "a warning"}}).encode()),
        answers(json.dumps({"images": [GOOD]}).encode()),
        answers(json.dumps([{"image": GOOD}]).encode()),
        answers(b"\xef\xbb\xbf" + pictures_json(png(seed=5)), Content_Type="text/plain"),
        answers(b" \n \n" + pictures_json(png(seed=5))),
        answers(gzip.compress(pictures_json(png(seed=5))), Content_Encoding="gzip"),
        answers(pictures_json(png(seed=5)), Content_Encoding="gzip"),
        answers(pictures_json(png(seed=5)), 201),
        answers(png(seed=5), Content_Type="image/png"),
    ],
)
def test_picture_is_taken_in_any_form_in_which_it_is_there(
    client: OmniClient, omni: ScriptedOmni, jobs: Jobs, route: Route
) -> None:
    omni.script(route)
    omni.script(answers(png(seed=5), Content_Type="image/png"), path="/files/a.png")
    assert generated(client, jobs).data == png(seed=5)


def test_picture_is_fetched_from_the_server_s_own_address(client: OmniClient, omni: ScriptedOmni, jobs: Jobs) -> None:
    omni.script(rows({"url": f"{omni.url}/made/a.png?sig=1"}))
    omni.script(hangs_up, answers(png(seed=5)), path="/made/a.png?sig=1")
    assert generated(client, jobs).data == png(seed=5)
    omni.script(answers(b"", 302, Location="http://169.254.169.254/"), path="/made/a.png?sig=1")
    with pytest.raises(UnusableAnswer, match="redirects"):
        generated(client, jobs)


@pytest.mark.parametrize("name", ["JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_other_formats_than_png_are_taken(client: OmniClient, omni: ScriptedOmni, jobs: Jobs, name: str) -> None:
    data = as_format(name)
    omni.script(rows({"b64_json": encoded(data)}))
    assert generated(client, jobs).data == data


def test_other_alphabet_of_base64(client: OmniClient, omni: ScriptedOmni, jobs: Jobs) -> None:
    omni.script(rows({"b64_json": URL_SAFE}))
    assert generated(client, jobs).data == png((64, 64), 0xFBEFFF)


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
def test_request_is_never_sent_again_where_the_picture_may_be_in_the_making(
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

    async def come_up_later() -> Picture:
        asked = asyncio.ensure_future(client.generate(FIELDS, 64 * 64))
        await asyncio.sleep(0.1)
        late.append(ScriptedOmni(port=port))
        await asyncio.to_thread(late[0].__enter__)
        return await asked

    late: list[ScriptedOmni] = []
    try:
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(attempts, "PAUSES_S", (0.5, 0.5))
            assert jobs.ask(come_up_later()).data == png(seed=5)
    finally:
        late[0].__exit__()
        jobs.ask(client.close())


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ({"data": [{"id": "a", "root": "b"}, {"id": "c"}]}, "a"),
        ([{"id": "a"}], "a"),
        (["a", "b"], "a"),
        ({"models": [{"name": "a"}]}, "a"),
        ({"data": [None, 7, {}, {"id": 3}, {"id": ""}, {"id": "a", "root": 7}]}, "a"),
        ({"data": {"id": "a"}}, "a"),
        ({"data": {"a": {"size": 1}}}, "a"),
        ({"id": "a"}, "a"),
    ],
)
def test_model_is_found_in_lists_of_any_form(
    client: OmniClient, omni: ScriptedOmni, jobs: Jobs, body: Any, name: str
) -> None:
    omni.script(answers(json.dumps(body).encode()), path="/v1/models")
    assert jobs.ask(client.served_model()).id == name


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


def test_image_at_another_name_of_the_same_address_is_fetched_from_the_server_itself(
    client: OmniClient, omni: ScriptedOmni, jobs: Jobs
) -> None:
    port = client.url.rpartition(":")[2]
    omni.script(answers(png(seed=3)), path="/files/a.png")
    for url in (f"http://0.0.0.0:{port}/files/a.png", f"http://localhost:{port}/files/a.png", "files/a.png"):
        omni.script(answers(json.dumps({"data": [{"url": url}]}).encode()))
        assert generated(client, jobs).data == png(seed=3), url


def test_answer_that_is_whole_is_kept_though_its_connection_breaks(
    client: OmniClient, omni: ScriptedOmni, jobs: Jobs
) -> None:
    def breaks(request: Any, fields: Any) -> None:
        data = pictures_json(png(seed=5))
        request.send_response(200)
        request.send_header("Content-Length", str(len(data) + 50))
        request.end_headers()
        request.wfile.write(data)
        request.close_connection = True

    omni.script(breaks)
    assert generated(client, jobs).data == png(seed=5)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html><title>Log in</title></html>", "does not: Log in."),
        (
            b'{"choices": [{"message": {"content": "I do not draw people."}}]}',
            "without a picture: I do not draw people.",
        ),
    ],
)
def test_what_a_server_says_in_the_place_of_an_image_is_told(
    client: OmniClient, omni: ScriptedOmni, jobs: Jobs, body: bytes, said: str
) -> None:
    omni.script(answers(body))
    with pytest.raises(UnusableAnswer, match=said):
        generated(client, jobs)
