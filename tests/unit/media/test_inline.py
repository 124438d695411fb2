"""Base64 and data URLs: forgiving about form, strict about content."""

from __future__ import annotations

import base64
from urllib.parse import quote

import pytest

from media.errors import MediaTooLarge, MediaUnreadable
from media.inline import decode_base64, decode_data_url, refuse_other_media

DATA = bytes(range(256)) + b"\xfb\xff\xfe"
TEXT = base64.b64encode(DATA).decode()


@pytest.mark.parametrize(
    "text",
    [
        TEXT,
        TEXT.rstrip("="),
        "\n".join(TEXT[i : i + 76] for i in range(0, len(TEXT), 76)) + "\r\n",
        f" \t{TEXT} ",
        base64.urlsafe_b64encode(DATA).decode(),
    ],
)
def test_common_forms_of_base64_are_read(text: str) -> None:
    assert decode_base64(text, 1_000) == DATA


@pytest.mark.parametrize(
    "text",
    ["", " ", "====", "a", "abcde", "abcd=", "ab=", "ab===", "ab=cd", "ab*d", "äbcd", "abcd\0", "abcd\ud800", "%41"],
)
def test_what_is_not_base64_is_an_error(text: str) -> None:
    with pytest.raises(MediaUnreadable):
        decode_base64(text, 1_000)


def test_length_is_checked_before_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("media.inline.binascii.a2b_base64", lambda *_, **__: pytest.fail("decoded"))
    with pytest.raises(MediaTooLarge, match="VLLM_MAX_IMAGE_BYTES"):
        decode_base64("A" * 200_000_000, 20_000_000)


def test_limit_is_exact() -> None:
    assert decode_base64(base64.b64encode(b"x" * 1_000).decode(), 1_000) == b"x" * 1_000
    with pytest.raises(MediaTooLarge):
        decode_base64(base64.b64encode(b"x" * 1_001).decode(), 1_000)


def test_messages_do_not_repeat_the_data() -> None:
    with pytest.raises(MediaUnreadable) as caught:
        decode_base64("SECRET*TOKEN", 1_000)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    "header",
    ["data:image/png;base64", "DATA:IMAGE/PNG;BASE64", "data:;base64", "data:image/jpeg;charset=utf-8;base64"],
)
def test_data_url_is_read(header: str) -> None:
    assert decode_data_url(f"{header},{TEXT}", 1_000) == DATA
    assert decode_data_url(f"{header},{quote(TEXT, safe='')}", 1_000) == DATA


@pytest.mark.parametrize(
    ("url", "hint"),
    [
        ("data:image/png;base64", "comma"),
        ("data:", "comma"),
        ("data:image/png,%89PNG", "percent-encoded"),
        ("data:image/png;base64;x=1,abcd", "percent-encoded"),
        ("data:text/html;base64,abcd", "text/html"),
        ("data:image/png;base64,", "empty"),
    ],
)
def test_data_url_of_another_form_is_an_error_that_says_why(url: str, hint: str) -> None:
    with pytest.raises(MediaUnreadable, match=hint):
        decode_data_url(url, 1_000)


@pytest.mark.parametrize(
    "mime_type", [None, "", "image/png", "IMAGE/x-unknown", "image/png; q=1", "application/octet-stream"]
)
def test_mime_types_of_images_pass(mime_type: str | None) -> None:
    refuse_other_media(mime_type)


@pytest.mark.parametrize("mime_type", ["text/html", "application/pdf", "audio/wav", "png", "x" * 1_000, "a\nb"])
def test_other_mime_types_are_errors(mime_type: str) -> None:
    with pytest.raises(MediaUnreadable) as caught:
        refuse_other_media(mime_type)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 250
