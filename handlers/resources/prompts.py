"""The table of prompts, one row per prompt.

A prompt makes the host's model call the local one: it contains the tool's name and the arguments. The image stays a
path or URL, so this server reads it and the host's model does not receive it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from handlers.resources import completions
from mcp_protocol.jsonrpc import Json
from mcp_protocol.resources.prompts import Prompt, PromptArgument, PromptError

_URL = re.compile(r"(?:https?|file|data):", re.IGNORECASE)

IMAGE = "absolute path, or http(s) or file: URL"
LANGUAGE = PromptArgument("language", "Language of the answer.", complete=completions.languages)
MODEL = PromptArgument(
    "model", "Which of the server's models looks at the image.", complete=completions.configured_models
)


def describe_picture(given: Mapping[str, str]) -> str:
    """Requests a description of one image, or the answer to a question about it."""
    question = given.get("question", "Describe this image in detail.")
    call = _call(_in_language(question, given), given["picture"], **_model(given))
    return f"{call}\n\nThen give me the answer it returns."


def compare_pictures(given: Mapping[str, str]) -> str:
    """Requests a comparison of two images."""
    question = "Compare these two images: what do they have in common, and how do they differ?"
    if "aspect" in given:
        question += f" Look above all at this: {given['aspect']}"
    call = _call(_in_language(question, given), given["first"], given["second"], **_model(given))
    return f"{call}\n\nThen give me the comparison it returns."


def extract_json(given: Mapping[str, str]) -> str:
    """Requests the content of an image as one JSON object."""
    if "fields" not in given and "schema" not in given:
        raise PromptError("missing arguments: fields or schema")
    instructions = ["Read this image and answer with one JSON object and nothing else."]
    if "fields" in given:
        instructions.append(f"Its fields: {given['fields']}. Use null for what the image does not show.")
    if "schema" in given:
        instructions.append(f"It must match this JSON Schema: {msgspec.json.encode(_schema(given['schema'])).decode()}")
    if "language" in given:
        instructions.append(f"Write its texts in {given['language']}.")
    call = _call(" ".join(instructions), given["picture"], temperature=0, **_model(given))
    return (
        f"{call}\n\nThen check that the text it returns is one JSON object as requested, fix only its syntax if "
        "needed, and give me that object in a json code block. Do not add anything that the tool did not return."
    )


def _schema(text: str) -> Json:
    try:
        return msgspec.json.decode(text, type=Json)
    except (ValueError, RecursionError):
        raise PromptError("arguments.schema must be a JSON Schema: one JSON object") from None


def with_model(prompt: Prompt) -> Prompt:
    """The prompt with an argument that names the model, for servers with several."""
    return msgspec.structs.replace(prompt, arguments=(*prompt.arguments, MODEL))


def _model(given: Mapping[str, str]) -> dict[str, str]:
    return {"model": given["model"]} if "model" in given else {}


def _in_language(question: str, given: Mapping[str, str]) -> str:
    return f"{question} Answer in {given['language']}." if "language" in given else question


def _call(question: str, *images: str, **others: Any) -> str:
    """The text that makes a model call the tool with exactly these arguments."""
    content = [{"type": "text", "text": question}, *(_part(image) for image in images)]
    arguments = msgspec.json.encode({"messages": [{"role": "user", "content": content}], **others}).decode()
    return (
        "Call the tool chat_completion with exactly these arguments; the local model then looks at the "
        f"{'images' if len(images) > 1 else 'image'}:\n\n```json\n{arguments}\n```\n\n"
        "If the tool reports that the model is still loading, wait a moment and call it again."
    )


def _part(image: str) -> Json:
    if _URL.match(image):
        return {"type": "image_url", "image_url": {"url": image}}
    return {"type": "image", "path": image}


def _image(name: str, which: str) -> PromptArgument:
    return PromptArgument(name, f"{which}: {IMAGE}.", required=True, complete=completions.images)


PROMPTS = (
    Prompt(
        name="describe_picture",
        tool="chat_completion",
        title="Describe an image",
        description="The local model describes an image, or answers a question about it.",
        arguments=(
            _image("picture", "The image"),
            PromptArgument("question", "The question about it; default: a detailed description."),
            LANGUAGE,
        ),
        text=describe_picture,
    ),
    Prompt(
        name="compare_pictures",
        tool="chat_completion",
        title="Compare two images",
        description="The local model describes what two images have in common and how they differ.",
        arguments=(
            _image("first", "The first image"),
            _image("second", "The second image"),
            PromptArgument("aspect", "What to focus on."),
            LANGUAGE,
        ),
        text=compare_pictures,
    ),
    Prompt(
        name="extract_json",
        tool="chat_completion",
        title="Extract data from an image",
        description="The local model reads an image, such as a receipt or a form, into one JSON object.",
        arguments=(
            _image("picture", "The image"),
            PromptArgument("fields", "Names of the fields, separated by commas."),
            PromptArgument("schema", "A JSON Schema of the object; instead of fields or in addition."),
            LANGUAGE,
        ),
        text=extract_json,
    ),
)
