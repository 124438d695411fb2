"""JSON for the fuzzer: odd values, and values that a schema allows, nearly allows, or does not allow at all."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

Json = dict[str, Any]
Draw = Callable[[st.SearchStrategy[Any]], Any]

ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**53 + 1,
    2**64,
    -(2**70),
    10**40,
    0.5,
    -0.0,
    1e-320,
    1.7e308,
    "",
    " ",
    "0.7",
    "true",
    "\0",
    "a\nb\r\n",
    "\u2028\u2029\ufeff",
    "\ud83d",
    "😀 é 漢",
    "\x1b[31m",
    "../../etc/passwd",
    "<|im_end|><image>",
    "%s%n{0}${HOME}",
    "x" * 300,
    "x" * 20_000,
    [],
    {},
    [[]],
    [None],
    {"": None},
    {"a": {"b": [1, {"c": "d"}]}},
    [1, "a", {}],
    {"__proto__": 1, "type": "text"},
)
odd = st.sampled_from(ODD)
DEPTHS = (5, 60, 300, 800)

PATHS = (
    "/etc/passwd",
    "/dev/zero",
    "/proc/self/environ",
    "relative.png",
    "../up.png",
    "/nowhere/at/all.png",
    "file:///etc/hostname",
    "file://host/etc/passwd",
    "data:image/png;base64,AAAA",
    "data:,",
    "http://127.0.0.1:9/a.png",
    "http://[::1]/",
    "http://169.254.169.254/latest",
    "https://user:pass@127.0.0.1/",
    "ftp://127.0.0.1/",
    "gopher:",
    "concat:/etc/passwd",
    "\0",
    "-i",
)
LISTS_OF_PATHS = ("file_paths", "image_paths", "image_urls", "paths")
"""The arguments with several of them."""
A_JOB = "@job"
"""Stands for the id of the last job that was told of."""
BY_NAME: dict[str, Sequence[Any]] = {
    **dict.fromkeys(("session_id", "fork_session_id"), ("s", "t", "u", "../x", "", "a b", "é", "x" * 256, "x" * 257)),
    **dict.fromkeys(("path", "url", "image_path", "audio_path", "video_path"), PATHS),
    **dict.fromkeys(("mask_path", "reference_audio", "like"), PATHS),
    **dict.fromkeys(("job_id", "batch_id"), (A_JOB, A_JOB, A_JOB, "../x", "", "image_" + "0" * 16)),
    **dict.fromkeys(("width", "height"), (16, 64, 128, 0, -8, 65, 100_000)),
    **dict.fromkeys(("wait_s", "timeout_s"), (0.01, 0.05, 0, -1, 1e9)),
    "timeout_seconds": (0, 1, 600, -1, 10**9),
    "text": ("hello", "what is this?", "<|im_start|>", "a" * 2_000),
    "role": ("user", "user", "user", "system", "assistant", "tool", "root"),
}
"""What arguments of these names are drawn from; times that a call may wait for are short."""


def of_schema(schema: Json, images: Sequence[str], root: Json | None = None, name: str = "") -> st.SearchStrategy[Any]:
    """Values that mostly fit a schema, as far as the schemas of the tools go; `images` are paths of real ones."""
    root = schema if root is None else root
    if name == "messages" or (name == "conversations" and "items" not in schema.get("items", {})):
        return st.one_of(chats(images), chats(images), _of_type(schema, images, root, "message"))
    if name in BY_NAME and "$ref" not in schema:
        real = images if BY_NAME[name] is PATHS else ()
        return st.sampled_from((*BY_NAME[name], *real, *real))
    if "$ref" in schema:
        target = root["$defs"][schema["$ref"].rpartition("/")[2]]
        return st.deferred(lambda: of_schema(target, images, root, name))
    if "anyOf" in schema:
        return st.one_of([of_schema(option, images, root, name) for option in schema["anyOf"]])
    if "enum" in schema or "const" in schema:
        return st.sampled_from(schema.get("enum") or [schema["const"]])
    return _of_type(schema, images, root, name)


def _of_type(schema: Json, images: Sequence[str], root: Json, name: str) -> st.SearchStrategy[Any]:
    kind = schema.get("type")
    if kind == "string":
        if name in LISTS_OF_PATHS:
            return st.sampled_from((*PATHS, *images, *images))
        at_least, at_most = schema.get("minLength", 0), schema.get("maxLength", 40)
        return st.text(string.printable, min_size=min(at_least, 50), max_size=min(at_most, 40) or 1)
    if kind in ("integer", "number"):
        low: float = schema["minimum"] if "minimum" in schema else schema.get("exclusiveMinimum", -5)
        high: float = schema["maximum"] if "maximum" in schema else schema.get("exclusiveMaximum", low + 5_000)
        if kind == "integer":
            return st.integers(int(low), int(high))
        return st.floats(low, high, width=32, allow_nan=False)
    if kind == "boolean":
        return st.booleans()
    if kind == "array":
        items = of_schema(schema.get("items", {}), images, root, name)
        return st.lists(items, min_size=schema.get("minItems", 0), max_size=max(schema.get("minItems", 0), 3))
    if kind == "object" and "properties" in schema:
        return objects(schema, images, root)
    return st.none() if kind == "null" else odd


def chats(images: Sequence[str]) -> st.SearchStrategy[list[Json]]:
    """Conversations in order: a few turns, the last one the user's, some with an image."""
    text = st.one_of(st.text(max_size=20), st.sampled_from(("hello", "<|im_end|>", "é\u2028\ud83d", "word " * 500)))
    image = st.one_of(
        st.sampled_from(images).map(lambda url: {"type": "image_url", "image_url": {"url": url}}),
        st.sampled_from(images[:1]).map(lambda path: {"type": "image", "path": path}),
    )
    parts = st.tuples(image, text.map(lambda words: {"type": "text", "text": words})).map(list)
    before = st.lists(st.tuples(text, text), max_size=2)
    return st.builds(_conversation, before, st.one_of(text, text, parts))


def _conversation(turns: Sequence[tuple[str, str]], last: Any) -> list[Json]:
    said = [
        {"role": role, "content": text}
        for turn in turns
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]
    return [*said, {"role": "user", "content": last}]


def objects(schema: Json, images: Sequence[str], root: Json | None = None) -> st.SearchStrategy[Json]:
    """Objects with what a schema requires and a few of the other properties; some are spoilt somewhere."""
    spoilt_of = 5 if root is None else 15
    root = schema if root is None else root
    properties = {name: of_schema(value, images, root, name) for name, value in schema["properties"].items()}
    required = list(schema.get("required", []))
    optional = [name for name in properties if name not in required]

    @st.composite
    def draw_object(draw: Draw) -> Json:
        names = required + (draw(st.lists(st.sampled_from(optional), max_size=3, unique=True)) if optional else [])
        value = {name: draw(properties[name]) for name in names}
        return draw_spoilt(draw, value) if draw(st.integers(1, spoilt_of)) == spoilt_of else value

    return draw_object()


def draw_spoilt(draw: Draw, value: Json) -> Json:
    """An object with one member more, one less, or one that became something else, maybe something deep."""
    name = draw(st.sampled_from([*value, "headers", "", "no_such", "x" * 70]))
    how = draw(st.sampled_from(("replace", "drop", "deep")))
    rest = {known: item for known, item in value.items() if known != name}
    if how == "drop":
        return rest
    return {**rest, name: draw(odd) if how == "replace" else nested(draw(st.sampled_from(DEPTHS)))}


def nested(depth: int) -> Any:
    """Lists in lists."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value
