"""Prompts: each spells out a call of a tool that takes exactly these arguments."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from handlers.prompts import PROMPTS
from handlers.resources import catalogues
from handlers.services import Services
from mcp_protocol.jsonrpc import ProtocolError
from tests.unit.fake_engine import texts_of
from tests.unit.handlers.conftest import Desk

SCHEMA = '{"type": "object", "properties": {"total": {"type": "number"}}}'

Json = dict[str, Any]


@pytest.fixture
def picture(tmp_path: Path, png: bytes) -> str:
    """A picture with a name that needs care."""
    path = tmp_path / 'my "best" picture ```.png'
    path.write_bytes(png)
    return str(path)


def prompt(desk: Desk, name: str, **arguments: str) -> str:
    """The text of a prompt."""
    (message,) = catalogues(desk.services).prompt({"name": name, "arguments": arguments})["messages"]
    assert message["role"] == "user"
    assert message["content"]["type"] == "text"
    return str(message["content"]["text"])


def called(text: str) -> tuple[str, Json]:
    """The tool that a prompt names, and the arguments for it."""
    tool = re.search(r"tool (\w+)", text)
    block = re.search(r"^```json\n(.*?)\n```$", text, re.DOTALL | re.MULTILINE)
    assert tool is not None
    assert block is not None
    return tool[1], json.loads(block[1])


def error_of(desk: Desk, name: str, **arguments: str) -> str:
    """Why a prompt is refused."""
    with pytest.raises(ProtocolError) as caught:
        prompt(desk, name, **arguments)
    assert caught.value.code == -32602
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "pictures", "others", "asked"),
    [
        ("describe_picture", ["picture"], {}, "Describe this image in detail."),
        ("describe_picture", ["picture"], {"question": "How many?"}, "How many?"),
        ("describe_picture", ["picture"], {"language": "German"}, "Describe this image in detail. Answer in German."),
        ("compare_pictures", ["first", "second"], {}, "Compare these two images"),
        ("compare_pictures", ["first", "second"], {"aspect": "the sky", "language": "Dutch"}, "the sky"),
        ("extract_json", ["picture"], {"fields": "total, date"}, "Its fields: total, date."),
        ("extract_json", ["picture"], {"schema": SCHEMA}, '"properties":{"total":{"type":"number"}}'),
        ("extract_json", ["picture"], {"fields": 'a "b"', "schema": SCHEMA, "language": "French"}, "in French"),
    ],
)
def test_prompt_spells_out_a_call_that_the_tool_takes(
    desk: Desk, picture: str, name: str, pictures: list[str], others: dict[str, str], asked: str
) -> None:
    tool, arguments = called(prompt(desk, name, **dict.fromkeys(pictures, picture), **others))
    desk.result(tool, arguments)
    ((_, said),) = texts_of(desk.engine.conversations[0])
    assert asked in said
    assert said.count("<image>") == len(pictures)


@pytest.mark.parametrize(
    "url", ["https://example.com/a.png", "HTTP://x/y", "file:///a b.png", "data:image/png;base64,x"]
)
def test_picture_by_url_stays_a_url(desk: Desk, url: str) -> None:
    _, arguments = called(prompt(desk, "describe_picture", picture=url))
    assert arguments["messages"][0]["content"][1] == {"type": "image_url", "image_url": {"url": url}}


@pytest.mark.parametrize("path", ["/a.png", "~/a.png", "httpfolder/a.png", "/data:x.png"])
def test_picture_by_path_stays_a_path(desk: Desk, path: str) -> None:
    _, arguments = called(prompt(desk, "describe_picture", picture=path))
    assert arguments["messages"][0]["content"][1] == {"type": "image", "path": path}


def test_no_picture_is_read_and_nothing_made_for_a_prompt(desk: Desk) -> None:
    prompt(desk, "describe_picture", picture="/there/is/no.png")
    assert "images" not in desk.services.__dict__
    assert desk.engine.batches == []


def test_data_is_extracted_without_chance(desk: Desk) -> None:
    assert called(prompt(desk, "extract_json", picture="/a.png", fields="a"))[1]["temperature"] == 0


def test_extraction_needs_fields_or_a_schema(desk: Desk) -> None:
    assert "fields or schema" in error_of(desk, "extract_json", picture="/a.png")


@pytest.mark.parametrize("schema", ["{", "[]", "5", "null", "[" * 100_00, "NaN"])
def test_schema_must_be_an_object(desk: Desk, schema: str) -> None:
    assert "arguments.schema" in error_of(desk, "extract_json", picture="/a.png", schema=schema)


@pytest.mark.parametrize("row", PROMPTS, ids=lambda row: row.name)
def test_missing_picture_is_named(desk: Desk, row: Any) -> None:
    required = [argument.name for argument in row.arguments if argument.required]
    assert error_of(desk, row.name).endswith(f"missing arguments: {', '.join(required)}")


def test_prompts_come_with_the_family_of_their_tool(desk: Desk) -> None:
    settings = desk.services.settings
    for toolsets, n_prompts in (((), len(PROMPTS)), (("chat",), len(PROMPTS)), (("other",), 0)):
        server = msgspec.structs.replace(settings.server, toolsets=toolsets)
        services = Services(msgspec.structs.replace(settings, server=server))
        assert len(catalogues(services).prompts({})["prompts"]) == n_prompts
