from __future__ import annotations

import pytest

from http_client.redaction import KeyFilter

KEY = "sk-abcab-12"


@pytest.mark.parametrize(
    "text", [f"my {KEY}.", KEY, KEY * 3, f"sk-abcabsk-abcab {KEY}x{KEY[:-1]} sk", "nothing", "", "sk-a"]
)
@pytest.mark.parametrize("n", [1, 2, 3, 7, 100])
def test_key_is_hidden_wherever_the_stream_is_cut(text: str, n: int) -> None:
    keys = KeyFilter(KEY)
    shown = ""
    for start in range(0, len(text), n):
        shown += keys.next(text[start : start + n])
        assert KEY not in shown
    whole = keys.whole(text)
    assert KEY not in whole
    assert whole.startswith(shown)
    assert KEY.startswith(whole[len(shown) :]), "only what may be the key's beginning waits"


@pytest.mark.parametrize("key", [None, "", "abc"])
def test_without_a_key_nothing_is_hidden_or_held_back(key: str | None) -> None:
    keys = KeyFilter(key)
    assert (keys.next("abc"), keys.whole("abc")) == ("abc", "abc")


def test_key_that_the_end_cuts_off_is_hidden() -> None:
    assert KeyFilter(KEY).whole(f"it is {KEY[:-1]}") == "it is …"
    assert KeyFilter(KEY).whole(f"it is {KEY[:4]}") == f"it is {KEY[:4]}"
