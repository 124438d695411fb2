"""Prompts: each spells out a call of a tool that takes exactly these arguments."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from handlers.resources.prompts import PROMPTS
from handlers.resources.resources import resource_registry
from handlers.services import Services
from mcp_protocol.jsonrpc import ProtocolError
from tests.unit.fake_engine import texts_of
from tests.unit.handlers.tool_client import Client

SCHEMA = '{"type": "object", "properties": {"total": {"type": "number"}}}'

Json = dict[str, Any]


@pytest.fixture
def image(tmp_path: Path, png: bytes) -> str:
    """An image with a name that needs care."""
    path = tmp_path / 'my "best" picture ```.png'
    path.write_bytes(png)
    return str(path)


def prompt(client: Client, name: str, **arguments: str) -> str:
    """The text of a prompt."""
    (message,) = resource_registry(client.services).prompt({"name": name, "arguments": arguments})["messages"]
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


def error_of(client: Client, name: str, **arguments: str) -> str:
    """Why a prompt is refused."""
    with pytest.raises(ProtocolError) as caught:
        prompt(client, name, **arguments)
    assert caught.value.code == -32602
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "images", "others", "asked"),
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
    client: Client, image: str, name: str, images: list[str], others: dict[str, str], asked: str
) -> None:
    tool, arguments = called(prompt(client, name, **dict.fromkeys(images, image), **others))
    client.result(tool, arguments)
    ((_, said),) = texts_of(client.engine.conversations[0])
    assert asked in said
    assert said.count("<image>") == len(images)


@pytest.mark.parametrize(
    "url", ["https://example.com/a.png", "HTTP://x/y", "file:///a b.png", "data:image/png;base64,x"]
)
def test_image_by_url_stays_a_url(client: Client, url: str) -> None:
    _, arguments = called(prompt(client, "describe_picture", picture=url))
    assert arguments["messages"][0]["content"][1] == {"type": "image_url", "image_url": {"url": url}}


@pytest.mark.parametrize("path", ["/a.png", "~/a.png", "httpfolder/a.png", "/data:x.png"])
def test_image_by_path_stays_a_path(client: Client, path: str) -> None:
    _, arguments = called(prompt(client, "describe_picture", picture=path))
    assert arguments["messages"][0]["content"][1] == {"type": "image", "path": path}


def test_no_image_is_read_and_nothing_made_for_a_prompt(client: Client) -> None:
    prompt(client, "describe_picture", picture="/there/is/no.png")
    assert "images" not in client.services.__dict__
    assert client.engine.batches == []


def test_data_is_extracted_without_chance(client: Client) -> None:
    assert called(prompt(client, "extract_json", picture="/a.png", fields="a"))[1]["temperature"] == 0


def test_extraction_needs_fields_or_a_schema(client: Client) -> None:
    assert "fields or schema" in error_of(client, "extract_json", picture="/a.png")


@pytest.mark.parametrize("schema", ["{", "[]", "5", "null", "[" * 100_00, "NaN"])
def test_schema_must_be_an_object(client: Client, schema: str) -> None:
    assert "arguments.schema" in error_of(client, "extract_json", picture="/a.png", schema=schema)


@pytest.mark.parametrize("row", PROMPTS, ids=lambda row: row.name)
def test_missing_image_is_named(client: Client, row: Any) -> None:
    required = [argument.name for argument in row.arguments if argument.required]
    assert error_of(client, row.name).endswith(f"missing arguments: {', '.join(required)}")


def test_prompts_come_with_their_tool(client: Client) -> None:
    settings = client.services.settings
    for toolsets, n_prompts in (((), len(PROMPTS)), (("slim",), len(PROMPTS)), (("gpu",), 0)):
        server = msgspec.structs.replace(settings.server, toolsets=toolsets)
        services = Services(msgspec.structs.replace(settings, server=server))
        assert len(resource_registry(services).prompts({})["prompts"]) == n_prompts


def test_prompts_name_a_model_where_there_are_several(make_client: Callable[..., Client], image: str) -> None:
    several = make_client(VLLM_MODELS="small=/models/small")
    tool, arguments = called(prompt(several, "describe_picture", picture=image, model="small"))
    assert arguments["model"] == "small"
    assert several.result(tool, arguments).model == "small"
    found = resource_registry(several.services).completion(
        {"ref": {"type": "ref/prompt", "name": "describe_picture"}, "argument": {"name": "model", "value": "s"}}
    )
    assert found["completion"]["values"] == ["small"]
    assert "unknown arguments: model" in error_of(make_client(), "describe_picture", picture=image, model="small")
