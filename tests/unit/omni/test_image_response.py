"""Where the image is in an answer, in the forms of many servers."""

from __future__ import annotations

import base64
import json

import pytest

from omni.image_response import read_image
from tests.scripted_omni import png

PNG = png()
B64 = base64.b64encode(PNG).decode()
DATA_URL = f"data:image/png;base64,{B64}"


def event(**fields: object) -> bytes:
    return b"event: image\ndata: " + json.dumps(fields).encode() + b"\n\n"


@pytest.mark.parametrize(
    "body",
    [
        f'{{"data": [{{"b64_json": "{B64}"}}], "metrics": {{"peak_memory_mb": NaN}}}}'.encode(),
        f'{{"data": [{{"b64_json": "{B64}", "revised_prompt": "a \\ud83d cat"}}]}}'.encode(),
        f'{{"data": [{{"b64_json": "{B64}", "revised_prompt": "two\nlines"}}]}}'.encode(),
        b'{"data": [{"revised_prompt": "caf\xe9", "b64_json": "' + B64.encode() + b'"}]}',
        json.dumps({"choices": [{"message": {"content": f"Here it is: ![image]({DATA_URL})"}}]}).encode(),
        json.dumps({"choices": [{"message": {"content": f'<img src="{DATA_URL}">'}}]}).encode(),
        event(type="image_generation.partial_image", b64_json=base64.b64encode(png(seed=9)).decode())
        + event(type="image_generation.completed", b64_json=B64)
        + b"data: [DONE]\n\n",
    ],
)
def test_image_is_found_in_whatever_is_around_it(body: bytes) -> None:
    assert read_image(body).data == PNG


@pytest.mark.parametrize(
    ("answer", "url"),
    [
        ({"data": [{"url": "files/a.png"}]}, "files/a.png"),
        ({"data": [{"url": "out/a.webp?token=1"}]}, "out/a.webp?token=1"),
        ({"choices": [{"message": {"content": "![cat](http://127.0.0.1/a.png)"}}]}, "http://127.0.0.1/a.png"),
        ({"choices": [{"message": {"content": "![cat](/files/a)"}}]}, "/files/a"),
        ({"choices": [{"message": {"content": "I would draw a.png for you"}}]}, None),
        ({"data": [{"url": "no address at all"}]}, None),
    ],
)
def test_address_is_found(answer: object, url: str | None) -> None:
    assert read_image(json.dumps(answer).encode()).url == url


def test_what_is_said_in_the_place_of_an_image_is_kept() -> None:
    found = read_image(json.dumps({"choices": [{"message": {"content": "I do not draw people."}}]}).encode())
    assert (found.data, found.url, found.said) == (None, None, "I do not draw people.")
    assert read_image(b'event: x\ndata: {"error": {"message": "too dark"}}\n\n').refusal is not None


def test_long_texts_cost_no_time() -> None:
    hostile = "(data:image/png;base64," + "A" * 2_000_000
    assert read_image(json.dumps({"a": hostile, "b": "![" * 500_000}).encode()).data is None
