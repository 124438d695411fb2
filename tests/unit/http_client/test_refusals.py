"""What servers say when they refuse, in the shapes of many of them, and what that is about."""

from __future__ import annotations

import json
from typing import Any

import pytest

from http_client.refusals import Blame, refusal, refusal_in, retry_after_s

KEY = "sk-very-secret-0123456789"


def openai(message: str, **rest: Any) -> dict[str, Any]:
    return {"error": {"message": message, "type": "invalid_request_error", **rest}}


SHAPES: list[tuple[Any, str]] = [
    (openai("It is so."), "It is so."),
    ({"error": "It is so."}, "It is so."),
    ({"error": {"detail": "It is so."}}, "It is so."),
    ({"error": {"code": 400, "Message": "It is so."}}, "It is so."),
    ([{"error": {"code": 400, "message": "It is so.", "status": "INVALID_ARGUMENT"}}], "It is so."),
    ({"detail": "It is so."}, "It is so."),
    ({"message": "It is so.", "request_id": "r"}, "It is so."),
    ({"code": "InvalidParameter", "message": "It is so.", "request_id": "r"}, "It is so."),
    ({"success": False, "errors": [{"code": 7, "message": "It is so."}], "messages": []}, "It is so."),
    ({"base_resp": {"status_code": 1004, "status_msg": "It is so."}}, "It is so."),
    ({"Response": {"Error": {"Code": "X", "Message": "It is so."}}}, "It is so."),
    ({"error": "invalid_request", "error_description": "It is so."}, "invalid_request: It is so."),
    ({"type": "about:blank", "title": "Not so", "detail": "It is so.", "status": 400}, "Not so: It is so."),
    ({"detail": [{"loc": ["body", "seed"], "msg": "It is so.", "type": "t"}]}, "seed: It is so."),
    ({"object": "error", "message": {"detail": [{"loc": ["body", "n"], "msg": "so"}]}, "type": "t"}, "n: so"),
    (
        openai("Provider returned error", metadata={"raw": json.dumps(openai("It is so.")), "provider_name": "x"}),
        "Provider returned error: It is so.",
    ),
    (
        openai("Refused", metadata={"raw": {"kind": "OK", "data": json.dumps(openai("It is so."))}}),
        "Refused: It is so.",
    ),
    (openai('upstream said: {"error": {"message": "It is so."}}'), "upstream said: It is so."),
    ({"error": 'b\'{"detail": "It is so."}\''}, "It is so."),
    ({"type": "error", "error": {"type": "overloaded_error", "message": "It is so."}}, "It is so."),
    (b"It is so.", "It is so."),
    (b'"It is so."', "It is so."),
    (b"\xef\xbb\xbf" + json.dumps(openai("It is so.")).encode(), "It is so."),
    (b"<html><head><title>It is so.</title></head><body><h1>It is so.</h1>nginx</body></html>", "It is so."),
    (b"<!DOCTYPE html><style>x{}</style><p>It &amp; all</p>", "It & all"),
    (b'event: error\ndata: {"error": {"message": "It is so."}}\n\n', "It is so."),
    ({"error": {"code": "BadRequest", "message": "", "details": [{"message": "It is so."}]}}, "It is so."),
    ({"fault": {"faultstring": "It is so.", "detail": {"errorcode": "oauth.v2.x"}}}, "It is so."),
    ({"error": {"message": None, "inner_error": {"message": "It is so."}}}, "It is so."),
    (b'{"detail": "It is so. ' + b"x" * 70_000, "It is so. " + "x" * 289 + "…"),
    (openai("", code="model_sleeps"), "model_sleeps, invalid_request_error"),
]


def encoded(body: Any) -> bytes:
    return body if isinstance(body, bytes) else json.dumps(body).encode()


def reason(status: int, headers: Any, body: Any, secrets: Any = ()) -> str | None:
    return refusal(status, headers, body, secrets).reason or None


@pytest.mark.parametrize(("body", "told"), SHAPES)
def test_reason_is_found_in_every_shape(body: Any, told: str) -> None:
    assert reason(400, {}, encoded(body)) == told


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"null", b'{"error": null}', b'{"error": {}}', b"[[[[]]]]"])
def test_no_reason_is_none(body: bytes) -> None:
    assert reason(500, {}, body) in (None, "null")


def test_reason_is_one_bounded_printable_line_without_secrets() -> None:
    said = f"No:\n\x1b[31m{KEY} sk-ve***89 hf_ABCDEFGHIJKLMNOP 0x7f00aa11bb22 /srv/models/secret/a.py " + "x" * 999
    told = reason(400, {}, encoded(openai(said)), [KEY, None])
    assert told is not None
    assert len(told) == 300
    assert told.isprintable()
    assert not any(secret in told for secret in (KEY, "sk-ve", "hf_A", "0x7f", "/srv"))


def test_words_that_only_look_like_keys_stay() -> None:
    said = "skip-the-validation-step-please, or ask gsk and nvapi"
    assert reason(400, {}, encoded(openai(said))) == said
    for key in ("gsk_" + "a1" * 20, "AIza" + "b2" * 18, "Bearer abcdefgh12", "sk-proj-abc123"):
        told = reason(400, {}, encoded(openai(f"bad {key}!")))
        assert told == "bad …!", told


@pytest.mark.parametrize("body", ["[" * 5_000, '{"error":' * 3_000, '{"error":{"message":"' + "{" * 60_000, "\ud800"])
def test_hostile_bodies_are_read_in_bounded_time(body: str) -> None:
    refusal(400, {}, body.encode("utf-8", "surrogatepass"))


@pytest.mark.parametrize(
    ("status", "body", "blame"),
    [
        (401, openai("Incorrect API key provided"), Blame.KEY),
        (400, [{"error": {"message": "API key not valid. Please pass a valid API key."}}], Blame.KEY),
        (403, b"", Blame.KEY),
        (403, {"detail": "Not authenticated"}, Blame.KEY),
        (403, openai("Your request was rejected by the content policy.", code=403), Blame.CONTENT_POLICY),
        (400, {"code": "DataInspectionFailed", "message": "Input data may be wrong."}, Blame.CONTENT_POLICY),
        (400, openai("The response was filtered", code="content_filter"), Blame.CONTENT_POLICY),
        (403, openai("Your input was flagged", code=403), Blame.CONTENT_POLICY),
        (403, openai("Country, region, or territory not supported"), Blame.PERMISSION),
        (403, openai("This model is not available in your region."), Blame.PERMISSION),
        (402, openai("This request requires more credits"), Blame.FUNDS),
        (429, openai("You exceeded your current quota", code="insufficient_quota"), Blame.FUNDS),
        (429, openai("Slow down"), Blame.RATE),
        (404, openai("The model `x` does not exist.", param="model"), Blame.MODEL),
        (404, {"error": 'model "x" not found, try pulling it first'}, Blame.MODEL),
        (400, openai("x/y is not a valid model ID"), Blame.MODEL),
        (400, openai("Unknown model: 'some_model'"), Blame.MODEL),
        (400, openai("The model does not support the field 'stream_options'"), Blame.PARAMETER),
        (404, {"detail": "Not Found"}, Blame.ADDRESS),
        (404, openai("The model `text-moderation-9` does not exist"), Blame.MODEL),
        (405, {"detail": "Method Not Allowed"}, Blame.ADDRESS),
        (404, openai("No endpoints found that support image input"), Blame.ADDRESS),
        (400, openai("This model's maximum context length is 8 tokens"), Blame.CONTEXT),
        (500, openai("the request exceeds the available context size"), Blame.CONTEXT),
        (400, openai("Range of input length should be [1, 6000]"), Blame.CONTEXT),
        (400, openai("no room for tokens"), Blame.REQUEST),
        (400, openai("This model does not support image input"), Blame.REQUEST),
        (413, b"<title>413 Request Entity Too Large</title>", Blame.TOO_LARGE),
        (407, b"", Blame.PROXY),
        (500, openai("CUDA out of memory"), Blame.MEMORY),
        (502, b"<h1>502 Bad Gateway</h1>", Blame.BUSY),
        (529, openai("Overloaded"), Blame.BUSY),
        (500, openai("NullPointerException"), Blame.SERVER),
    ],
)
def test_right_thing_is_blamed(status: int, body: Any, blame: Blame) -> None:
    assert refusal(status, {}, encoded(body)).blame is blame


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (openai("Unsupported parameter: 'max_tokens' is not supported", param="max_tokens"), "max_tokens"),
        (openai("Unrecognized request argument supplied: top_k"), "top_k"),
        (openai('Invalid JSON payload received. Unknown name "seed": Cannot find field.'), "seed"),
        (openai("property 'stream_options' is unsupported"), "stream_options"),
        ({"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]}, "seed"),
        (openai('json: unknown field "logprobs"'), "logprobs"),
    ],
)
def test_field_that_is_refused_is_named(body: Any, field: str) -> None:
    found = refusal(400, {}, encoded(body))
    assert found.blame is Blame.PARAMETER
    assert found.fields[0] == field


def test_error_in_the_place_of_an_answer() -> None:
    found = refusal_in(openai("Rate limit exceeded", code="429"))
    assert found is not None
    assert (found.status, found.blame, found.reason) == (429, Blame.RATE, "Rate limit exceeded")
    found = refusal_in([openai("No")])
    assert found is not None
    assert found.reason == "No"
    for body in ({"error_code": 1, "error_msg": "No"}, {"ok": False, "reason": "No"}, {"success": False, "msg": "No"}):
        found = refusal_in(body)
        assert found is not None
        assert found.reason == "No"
    answers: list[Any] = [{}, [], "x", {"choices": []}, {"choices": [{}], "error": None}, {"data": [1], "error": "no"}]
    for answer in answers:
        assert refusal_in(answer) is None, answer


def test_time_to_wait_is_read_from_a_header_in_any_case() -> None:
    assert refusal(429, {"Retry-After": "7"}, b"").retry_after_s == 7
    assert [retry_after_s(text) for text in (None, "-3", "soon", "inf")] == [None, 0.0, None, None]
    later = retry_after_s("Fri, 31 Dec 2199 23:59:59 GMT")
    assert later is not None
    assert later > 1e9
