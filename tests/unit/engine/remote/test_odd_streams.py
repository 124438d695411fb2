"""Streams in every format that servers use: compressed, broken or endless."""

from __future__ import annotations

import gzip
import json
import time
import zlib

import pytest

from engine.errors import GenerationFailed
from engine.remote.engine import RemoteEngine
from engine.remote.sse import MAX_EVENT_BYTES, EventStream
from tests.fuzz.provider_streams import run
from tests.scripted_openai import Request, ScriptedOpenAI, piece, streams, usage
from tests.unit.engine.remote.samples import DELTA, SAID, Json, answer, lines, raw

pytestmark = pytest.mark.slow


def test_end_of_a_body_whose_length_was_told_is_an_end(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    server.script(raw(lines(*SAID)))
    assert answer(engine).text == "Good day"


def test_gaps_are_told(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    server.script(streams(SAID[0], '{"choices": [{"delta": {"content": " grey', SAID[1], piece("stop"), "[DONE]"))
    completion = answer(engine)
    assert completion.text == "Good day"
    assert completion.remarks == ("Some events of the response could not be read (1): the text may have gaps.",)


def test_connection_that_breaks_behind_the_end_takes_nothing_away(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    def cut_short(request: Request, fields: Json) -> None:
        request.send_response(200)
        request.send_header("Content-Type", "text/event-stream")
        request.send_header("Content-Length", "100000")
        request.end_headers()
        request.wfile.write(lines(*SAID, piece("stop")).encode().rstrip())
        request.close_connection = True

    server.script(cut_short)
    assert answer(engine).text == "Good day"


@pytest.mark.parametrize(
    "events",
    [
        [*SAID, piece("stop")],
        [SAID[0], piece("stop", content=" day")],
        [*SAID, piece("stop"), usage()],
        [*SAID, piece("stop"), piece("stop")],
        [piece("stop", reasoning="Hm"), piece("stop", content="Good"), piece("stop", content=" day"), piece("stop")],
        [{"choices": [{"index": 0, "message": DELTA, "finish_reason": "stop"}]}],
    ],
)
def test_answer_is_not_waited_for_beyond_its_end(
    server: ScriptedOpenAI, engine: RemoteEngine, monkeypatch: pytest.MonkeyPatch, events: list[Json | str]
) -> None:
    monkeypatch.setattr("engine.remote.client.AFTER_END_S", 0.1)

    def stays(request: Request, fields: Json) -> None:
        streams(*events)(request, fields)
        while not request.is_hung_up_on(0.05):
            request.wfile.write(b": still here\n\ndata: {}\n\n")

    engine.load()
    server.script(stays)
    started_s = time.monotonic()
    assert answer(engine).text == "Good day"
    assert time.monotonic() - started_s < 4


@pytest.mark.parametrize(
    "body",
    [
        "\ufeff" + lines(*SAID, piece("stop"), "[DONE]"),
        lines(*SAID, piece("stop"), "[DONE]", end="\r\n\r\n"),
        lines(*SAID, piece("stop"), "[DONE]", end="\r\r"),
        lines(*SAID, piece("stop"), "[DONE]", prefix="data:", end="\n"),
        lines(*SAID, piece("stop"), prefix=""),
        lines(*SAID, piece("stop"), "[DONE]", prefix="data: data: "),
        lines(*SAID, piece("stop")).rstrip(),
        ": hello\n\nretry: 3000\nid: 1\nevent: message\n" + lines(*SAID, '"ping"', "null", "[]", "{}", piece("stop")),
        lines(SAID[0], "keep-alive", '{"message": "still at it"}', SAID[1], "[DONE]"),
        "data: "
        + json.dumps({"choices": [{"delta": DELTA}]}, indent=1).replace("\n", "\ndata: ")
        + "\n\ndata: [DONE]\n\n",
        json.dumps({"choices": [{"message": DELTA, "finish_reason": "stop"}]}),
        json.dumps({"choices": [{"message": DELTA, "finish_reason": "stop"}]}, indent=2),
        json.dumps([*SAID, piece("stop")], indent=2),
    ],
)
@pytest.mark.parametrize("content_type", ["text/event-stream", "application/json", "text/plain", "text/html"])
def test_stream_is_read_however_it_is_written(
    server: ScriptedOpenAI, engine: RemoteEngine, body: str, content_type: str
) -> None:
    server.script(raw(body, content_type))
    assert answer(engine).text == "Good day"


def test_compressed_answers_are_read(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    body = lines(*SAID, piece("stop"), usage(), "[DONE]").encode()
    for encoding, data in (("gzip", gzip.compress(body)), ("deflate", zlib.compress(body))):
        server.script(raw(data, Content_Encoding=encoding))
        assert answer(engine).text == "Good day"


def test_damage_behind_the_first_words_is_a_lost_connection(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    packer = zlib.compressobj(wbits=31)
    data = packer.compress(lines(*SAID).encode()) + packer.flush(zlib.Z_SYNC_FLUSH)

    def damaged(request: Request, fields: Json) -> None:
        request.send_response(200)
        request.send_header("Content-Encoding", "gzip")
        request.send_header("Connection", "close")
        request.end_headers()
        request.wfile.write(data)
        request.wfile.flush()
        time.sleep(0.2)
        request.wfile.write(b"\xff" * 100)

    server.script(damaged)
    with pytest.raises(GenerationFailed, match=r"was lost .* The text so far: Good day$"):
        answer(engine)


def test_bomb_is_not_unpacked(server: ScriptedOpenAI, engine: RemoteEngine) -> None:
    server.script(raw(gzip.compress(b"data: " + bytes(3 * MAX_EVENT_BYTES)), Content_Encoding="gzip"))
    with pytest.raises(GenerationFailed, match="longer than max_tokens allows"):
        answer(engine)


def test_lines_that_never_end_are_bounded() -> None:
    events = EventStream(1 << 30)
    assert list(events.feed(b"data: {" + b"{" * 100 + b"\n")) == []
    assert list(events.feed((b"data: {" + b"{" * 100 + b"\n") * 50_000)) == []
    with pytest.raises(GenerationFailed, match="longer than max_tokens allows"):
        list(events.feed(b"data: {\n"))


def test_broken_events_take_no_time() -> None:
    events = EventStream(1 << 30)
    list(events.feed(b'data: {"a": [\n' + b"data: 1,}\n" * 200_000))  # hours if it looked at all lines for each


@pytest.mark.parametrize("seed", range(3))
def test_text_that_has_come_is_never_an_error(seed: int) -> None:
    tally = run(200, seed)
    assert tally.finding is None
    assert tally.n_whole > 100
