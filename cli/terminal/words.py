"""From the words behind a tool's name to its arguments, by the schema of the tool.

`--max-tokens 20`, `--max_tokens=20` and `--max-t 20` are the same. The value is read by the argument's type:

    integer, number, text, one of several names    the word itself
    boolean                                        --flag, --no-flag, or a word such as true
    list                                           all words up to the next option, or JSON
    object, list of objects or lists               JSON; a message may be its text alone

A list or an object may be in a file, as `@file`; `@-` is all of stdin, for a text too.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

Json = dict[str, Any]
Read = Callable[[str], str]
"""Reads the text of a file, or of stdin for "-"; raises `UsageError`."""

SWITCHES = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
STDIN = "@-"


class UsageError(Exception):
    """The words on the command line are wrong; `str()` is one sentence about them."""


def arguments_of(words: Sequence[str], properties: Mapping[str, Json], read: Read) -> Json:
    """The arguments that the words give.

    Arguments:
        words: what the user wrote.
        properties: the schemas of the arguments by their names.
        read: reads files.

    Raises: `UsageError`.
    """
    given: dict[str, list[str]] = {}
    rest = list(words)
    while rest:
        option, equals, value = rest.pop(0).partition("=")
        name, is_denied = _named(option, properties)
        if is_denied and equals:
            raise UsageError(f"{option} takes no value.")
        if name in given and "array" not in kinds_of(properties[name]):
            raise UsageError(f"{shown(name)} is given twice.")
        texts = ["false"] if is_denied else [value] if equals else _taken(option, properties[name], rest)
        given.setdefault(name, []).extend(texts)
    return {name: _value(shown(name), texts, properties[name], read) for name, texts in given.items()}


def shown(name: str) -> str:
    """An argument's name as an option."""
    return "--" + name.replace("_", "-")


def kinds_of(schema: Json) -> frozenset[str]:
    """The JSON types that a schema allows; empty for any."""
    if "anyOf" in schema:
        return frozenset().union(*(kinds_of(choice) for choice in schema["anyOf"]))
    return frozenset({schema["type"]}) if isinstance(schema.get("type"), str) else frozenset(schema.get("type", ()))


def has_plain_items(schema: Json) -> bool:
    """Whether a schema allows a list whose items need no JSON."""
    items = _items_of(schema)
    return items is not None and not kinds_of(items) <= {"array", "object"}


def nearest(name: str, names: Sequence[str]) -> str:
    """A sentence that names the most similar of some names; empty if none is similar."""
    found = difflib.get_close_matches(name[:60], names, n=1)
    return f" Did you mean {found[0]}?" if found else ""


def _named(option: str, properties: Mapping[str, Json]) -> tuple[str, bool]:
    """The argument that an option names, in full or by an unambiguous beginning, and whether it says no to it."""
    if option == "-h":
        option = "--help"
    if not option.startswith("--") or option == "--":
        raise UsageError(f"{option[:60]!r} is no option. Give arguments as --name value; quote a value with spaces.")
    name = option[2:].replace("-", "_")
    if name in properties:
        return name, False
    switches = [known for known, schema in properties.items() if "boolean" in kinds_of(schema)]
    if name.startswith("no_") and name[3:] in switches:
        return name[3:], True
    longer = [known for known in properties if known.startswith(name)] if name else []
    if len(longer) == 1:
        return longer[0], False
    if longer:
        raise UsageError(f"{option} may mean {' or '.join(map(shown, longer))}.")
    known = [shown(each) for each in properties]
    advice = nearest(shown(name), known) or f" There are {', '.join(known)}."
    raise UsageError(f"There is no option {option[:60]}.{advice}")


def _taken(option: str, schema: Json, rest: list[str]) -> list[str]:
    """Takes the values of an option from the words behind it."""
    kinds = kinds_of(schema)
    if kinds == {"boolean"}:
        return [rest.pop(0)] if rest and rest[0].lower() in SWITCHES else ["true"]
    n_values = next((i for i, word in enumerate(rest) if word.startswith("--")), len(rest))
    if not n_values:
        hint = f" A value that begins with -- is given as {option}=VALUE." if rest else ""
        raise UsageError(f"{option} needs a value.{hint}")
    n_taken = n_values if has_plain_items(schema) else 1
    taken = rest[:n_taken]
    del rest[:n_taken]
    return taken


def _value(option: str, texts: Sequence[str], schema: Json, read: Read | None) -> Any:
    kinds = kinds_of(schema)
    if "array" not in kinds or (len(texts) == 1 and "string" in kinds and not texts[0].lstrip().startswith("[")):
        return _single(option, texts[0], schema, read)
    items = _items_of(schema) or {}
    if len(texts) > 1:
        return [_single(option, text, items, read) for text in texts]
    return _list(option, texts[0], items, read)


def _list(option: str, text: str, items: Json, read: Read | None) -> list[Any]:
    """A list from one word: JSON, a file, or a single item. A file that is not JSON has one item per line."""
    lines = [text]
    if text.startswith("@") and read is not None:
        text, read = read(text[1:]).rstrip("\n"), None
        lines = [text] if kinds_of(items) <= {"array", "object"} else text.splitlines()
    if text.lstrip().startswith("["):
        try:
            found: list[Any] = _decoded(option, text)
            return found
        except UsageError:
            if "string" not in kinds_of(items):  # a path may begin with a bracket
                raise
    return [_single(option, line, items, read) for line in lines if line.strip()]


def _single(option: str, text: str, schema: Json, read: Read | None) -> Any:
    """One value.

    Arguments: `read`, None for a text that is from a file itself.
    """
    kinds = kinds_of(schema)
    if "array" in kinds and "string" not in kinds:
        return _value(option, [text], schema, read)
    if "object" in kinds:
        return _object(option, text, schema, read)
    if "boolean" in kinds:
        if text.lower() not in SWITCHES:
            raise UsageError(f"{option} expects true or false, not {text[:60]!r}.")
        return SWITCHES[text.lower()]
    if "integer" in kinds or "number" in kinds:
        return _number(option, text, kinds)
    text = read("-").rstrip("\n") if text == STDIN and read is not None else text
    names = schema.get("enum", ())
    if names and text not in names:
        raise UsageError(f"{option} is one of {', '.join(names)}, not {text[:60]!r}.")
    return text


def _number(option: str, text: str, kinds: frozenset[str]) -> int | float:
    try:
        if "number" not in kinds:
            return int(text)
        if math.isfinite(value := float(text)):
            return value
    except ValueError:
        pass
    raise UsageError(f"{option} expects {'a number' if 'number' in kinds else 'a whole number'}, not {text[:60]!r}.")


def _object(option: str, text: str, schema: Json, read: Read | None) -> Any:
    """An object, or a text where the schema allows one. A message may be its text alone."""
    if text.startswith("@") and read is not None:
        text = read(text[1:]).rstrip("\n")
    if text.lstrip().startswith("{"):
        return _decoded(option, text)
    if "string" in kinds_of(schema):
        return text
    if {"role", "content"} <= schema.get("properties", {}).keys():
        return {"role": "user", "content": text}
    raise UsageError(f"{option} expects JSON or @file, not {text[:60]!r}.")


def _decoded(option: str, text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{option} is no valid JSON: {str(error)[:200]}.") from None


def _items_of(schema: Json) -> Json | None:
    """The schema of the items of a list; None if the schema allows no list."""
    for choice in schema.get("anyOf", [schema]):
        if choice.get("type") == "array":
            items: Json = choice.get("items", {})
            return items
    return None
