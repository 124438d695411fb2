"""Images in the responses of a scripted server, in every format that servers use."""

from __future__ import annotations

import base64
import gzip
import io
import json
from typing import Any

import pytest
from PIL import Image

from omni.client import OmniClient
from omni.errors import (
    InvalidResponse,
)
from omni.jobs.jobs import Jobs
from tests.scripted_omni import (
    Route,
    ScriptedOmni,
    answers,
    hangs_up,
    images_json,
    png,
)
from tests.unit.omni.conftest import generated


def rows(*images: Any) -> Route:
    return answers(json.dumps({"data": list(images)}).encode())


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
        answers(b"\xef\xbb\xbf" + images_json(png(seed=5)), Content_Type="text/plain"),
        answers(b" \n \n" + images_json(png(seed=5))),
        answers(gzip.compress(images_json(png(seed=5))), Content_Encoding="gzip"),
        answers(images_json(png(seed=5)), Content_Encoding="gzip"),
        answers(images_json(png(seed=5)), 201),
        answers(png(seed=5), Content_Type="image/png"),
    ],
)
def test_image_is_taken_in_any_form_in_which_it_is_there(
    client: OmniClient, omni: ScriptedOmni, jobs: Jobs, route: Route
) -> None:
    omni.script(route)
    omni.script(answers(png(seed=5), Content_Type="image/png"), path="/files/a.png")
    assert generated(client, jobs).data == png(seed=5)


def test_image_is_fetched_from_the_server_s_own_address(client: OmniClient, omni: ScriptedOmni, jobs: Jobs) -> None:
    omni.script(rows({"url": f"{omni.url}/made/a.png?sig=1"}))
    omni.script(hangs_up, answers(png(seed=5)), path="/made/a.png?sig=1")
    assert generated(client, jobs).data == png(seed=5)
    omni.script(answers(b"", 302, Location="http://169.254.169.254/"), path="/made/a.png?sig=1")
    with pytest.raises(InvalidResponse, match="redirects"):
        generated(client, jobs)


@pytest.mark.parametrize("name", ["JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_other_formats_than_png_are_taken(client: OmniClient, omni: ScriptedOmni, jobs: Jobs, name: str) -> None:
    data = as_format(name)
    omni.script(rows({"b64_json": encoded(data)}))
    assert generated(client, jobs).data == data


def test_other_alphabet_of_base64(client: OmniClient, omni: ScriptedOmni, jobs: Jobs) -> None:
    omni.script(rows({"b64_json": URL_SAFE}))
    assert generated(client, jobs).data == png((64, 64), 0xFBEFFF)


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
        data = images_json(png(seed=5))
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
        (b"<html><title>Log in</title></html>", "does: Log in."),
        (
            b'{"choices": [{"message": {"content": "I do not draw people."}}]}',
            "has no image: I do not draw people.",
        ),
    ],
)
def test_what_a_server_says_in_the_place_of_an_image_is_told(
    client: OmniClient, omni: ScriptedOmni, jobs: Jobs, body: bytes, said: str
) -> None:
    omni.script(answers(body))
    with pytest.raises(InvalidResponse, match=said):
        generated(client, jobs)
