"""The table of prompts: one row a prompt; nothing else lists them.

A prompt leads the host's model to ask the local one: it names the tool and spells out the arguments. The picture
stays a path or URL, so that it is read on this machine and not sent to wherever the host's model runs.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import msgspec

from handlers import completions
from mcp_protocol.jsonrpc import Json
from mcp_protocol.prompts import Prompt, PromptArgument, PromptError

_URL = re.compile(r"(?:https?|file|data):", re.IGNORECASE)

PICTURE = "absolute path, or http(s) or file: URL"
LANGUAGE = PromptArgument("language", "Language of the answer.", complete=completions.languages)


def describe_picture(given: Mapping[str, str]) -> str:
    """Asks for a description of one picture, or an answer to a question about it."""
    question = given.get("question", "Describe this image in detail.")
    call = _call(_in_language(question, given), given["picture"])
    return f"{call}\n\nThen give me the answer it returns."


def compare_pictures(given: Mapping[str, str]) -> str:
    """Asks what two pictures have in common and what not."""
    question = "Compare these two images: what do they have in common, and how do they differ?"
    if "aspect" in given:
        question += f" Look above all at this: {given['aspect']}"
    call = _call(_in_language(question, given), given["first"], given["second"])
    return f"{call}\n\nThen give me the comparison it returns."


def extract_json(given: Mapping[str, str]) -> str:
    """Asks for what stands on a picture as one JSON object."""
    if "fields" not in given and "schema" not in given:
        raise PromptError("missing arguments: fields or schema")
    wanted = ["Read this image and answer with one JSON object and nothing else."]
    if "fields" in given:
        wanted.append(f"Its fields: {given['fields']}. Use null for what the image does not show.")
    if "schema" in given:
        wanted.append(f"It must match this JSON Schema: {msgspec.json.encode(_schema(given['schema'])).decode()}")
    if "language" in given:
        wanted.append(f"Write its texts in {given['language']}.")
    call = _call(" ".join(wanted), given["picture"], temperature=0)
    return (
        f"{call}\n\nThen check that the text it returns is one JSON object as asked for, mend only its form where "
        "needed, and give me that object in a json code block. Do not fill in anything that the tool did not return."
    )


def _schema(text: str) -> Json:
    try:
        return msgspec.json.decode(text, type=Json)
    except (ValueError, RecursionError):
        raise PromptError("arguments.schema must be a JSON Schema: one JSON object") from None


def _in_language(question: str, given: Mapping[str, str]) -> str:
    return f"{question} Answer in {given['language']}." if "language" in given else question


def _call(question: str, *pictures: str, **sampling: float) -> str:
    """The sentence that leads a model to call the tool with exactly these arguments."""
    content = [{"type": "text", "text": question}, *(_part(picture) for picture in pictures)]
    arguments = msgspec.json.encode({"messages": [{"role": "user", "content": content}], **sampling}).decode()
    return (
        "Call the tool chat_completion with exactly these arguments; the local model then looks at the "
        f"{'pictures' if len(pictures) > 1 else 'picture'}:\n\n```json\n{arguments}\n```\n\n"
        "If it says that the model is still loading, wait a moment and call it again."
    )


def _part(picture: str) -> Json:
    if _URL.match(picture):
        return {"type": "image_url", "image_url": {"url": picture}}
    return {"type": "image", "path": picture}


def _picture(name: str, which: str) -> PromptArgument:
    return PromptArgument(name, f"{which}: {PICTURE}.", required=True, complete=completions.pictures)


PROMPTS = (
    Prompt(
        name="describe_picture",
        family="chat",
        title="Describe a picture",
        description="The local model describes a picture, or answers a question about it.",
        arguments=(
            _picture("picture", "The picture"),
            PromptArgument("question", "What to ask about it; left out: a description in detail."),
            LANGUAGE,
        ),
        text=describe_picture,
    ),
    Prompt(
        name="compare_pictures",
        family="chat",
        title="Compare two pictures",
        description="The local model tells what two pictures have in common and how they differ.",
        arguments=(
            _picture("first", "The first picture"),
            _picture("second", "The second picture"),
            PromptArgument("aspect", "What to look at above all."),
            LANGUAGE,
        ),
        text=compare_pictures,
    ),
    Prompt(
        name="extract_json",
        family="chat",
        title="Extract data from a picture",
        description="The local model reads a picture, such as a receipt or a form, into one JSON object.",
        arguments=(
            _picture("picture", "The picture"),
            PromptArgument("fields", "Names of the wanted fields, separated by commas."),
            PromptArgument("schema", "A JSON Schema for the object; in place of fields or with them."),
            LANGUAGE,
        ),
        text=extract_json,
    ),
)
