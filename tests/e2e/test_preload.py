"""`VLLM_PRELOAD=import`: vLLM is imported in the background, and nothing waits for it that does not need it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.server_process import LOAD_S, Json, ServerProcess
from tests.mcp_results import text_of

IMPORTED = "vLLM was imported in the background"
CHAT: Json = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}


@pytest.fixture
def importing(model: dict[str, str]) -> Iterator[ServerProcess]:
    """A server that has begun to import vLLM."""
    with ServerProcess({**model, "VLLM_PRELOAD": "import"}) as server:
        server.initialize()
        until_s = time.monotonic() + LOAD_S
        while "/libtorch" not in Path(f"/proc/{server.pid}/maps").read_text():
            assert time.monotonic() < until_s, server.stderr
            time.sleep(0.01)
        yield server


def test_pings_are_answered_during_the_import_and_the_first_call_after_it(importing: ServerProcess) -> None:
    n_pings = 0
    while IMPORTED not in importing.stderr:
        assert importing.request("ping", timeout_s=LOAD_S)["result"] == {}
        n_pings += 1
    assert n_pings > 1
    assert importing.result("model_info")["server_state"] == "unloaded"
    assert importing.result("chat_completion", CHAT)["usage"]["completion_tokens"] == 1


def test_call_during_the_import_joins_it(importing: ServerProcess) -> None:
    assert IMPORTED not in importing.stderr
    importing.send_call("chat_completion", CHAT, request_id="chat", meta={"progressToken": 1})
    assert importing.read_message(LOAD_S)["params"]["message"] == "importing vLLM"
    answer = importing.read_answer("chat", LOAD_S)
    assert not answer["result"]["isError"]
    assert importing.stderr.count(IMPORTED) == 1


def test_signal_during_the_import_ends_the_server(importing: ServerProcess) -> None:
    assert IMPORTED not in importing.stderr
    begin_s = time.monotonic()
    importing.signal()
    importing.assert_ends_promptly(begin_s)


def test_failed_import_is_the_answer_of_the_first_call(tmp_path: Path) -> None:
    package = tmp_path / "vllm"
    package.mkdir()
    (package / "__init__.py").write_text(
        f"open({str(tmp_path / 'tried')!r}, 'a').write('x')\nraise ImportError('broken')"
    )
    with ServerProcess({"VLLM_PRELOAD": "import", "PYTHONPATH": str(tmp_path)}) as server:
        server.initialize()
        until_s = time.monotonic() + LOAD_S
        while not (tmp_path / "tried").exists():
            assert time.monotonic() < until_s, server.stderr
            time.sleep(0.01)
        answer = server.call("chat_completion", CHAT, timeout_s=LOAD_S)
        assert answer["result"]["isError"]
        assert "failed: broken" in text_of(answer)
        assert (tmp_path / "tried").read_text() == "x"


def test_nothing_is_imported_for_a_model_on_another_server() -> None:
    with ServerProcess({"VLLM_PRELOAD": "import", "VLLM_BASE_URL": "http://127.0.0.1:9/v1"}) as server:
        server.initialize()
        time.sleep(2)  # twice the time after which the import would begin
        assert server.request("ping")["result"] == {}
        assert "/libtorch" not in Path(f"/proc/{server.pid}/maps").read_text()
