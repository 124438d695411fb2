"""What waits is held as bytes, within a budget: long lines take their length of memory, and one too many is told so."""

from __future__ import annotations

import json

from tests.e2e.server_process import LOAD_S, Json, ServerProcess
from tests.mcp_results import text_of

MIB = 1 << 20
CHAT: Json = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}


def line(arguments: bytes, request_id: str) -> bytes:
    """A call of `model_info`, which takes no arguments and refuses these at its turn."""
    head = {"jsonrpc": "2.0", "id": request_id, "method": "tools/call"}
    return json.dumps(head).encode()[:-1] + b', "params": {"name": "model_info", "arguments": ' + arguments + b"}}\n"


def test_long_calls_wait_as_bytes_until_the_budget_is_full(model: dict[str, str]) -> None:
    """Four of 8 MB fit into a quarter of 160 MiB; as objects each would take 200 MB."""
    many = line(b'{"x": [' + b",".join([b"[]"] * (8 * MIB // 3)) + b"]}", "long-%d")
    with ServerProcess({**model, "VLLM_MAX_HELD_BYTES": str(160 * MIB)}) as server:
        server.initialize()
        server.result("model_info")
        before = server.resident_bytes()
        server.send_call("chat_completion", CHAT, request_id="load", meta={"progressToken": 1})
        server.read_message(LOAD_S)  # the load has begun, and holds the queue up
        for number in range(5):
            server.send_bytes(many.replace(b"%d", str(number).encode()))
        refused = server.read_answer("long-4")
        assert "VLLM_MAX_HELD_BYTES" in text_of(refused)
        assert "busy" in text_of(refused)
        assert server.resident_bytes() - before < 1000 * MIB  # vLLM's import among them
        assert not server.read_answer("load", LOAD_S)["result"]["isError"]
        for number in range(4):
            answer = server.read_answer(f"long-{number}")
            assert answer["result"]["isError"]
            assert "VLLM_MAX_HELD_BYTES allows 40 MiB" in text_of(answer), "as objects it is too large at its turn too"
        assert not server.call("model_info")["result"]["isError"]


def test_message_that_is_no_call_and_would_take_a_gigabyte_is_refused(server: ServerProcess) -> None:
    server.initialize()
    before = server.resident_bytes()
    many = b",".join([b"{}"] * 10_000_000)
    for message in (
        b'{"jsonrpc":"2.0","id":1,"method":"ping","params":{"x":[' + many + b"]}}\n",
        b"[" + many + b"]\n",
    ):
        server.send_bytes(message)
        error = server.read_message()["error"]
        assert error["code"] == -32600
        assert "MiB of memory. Send less at once." in error["message"]
    assert server.resident_bytes() - before < 300 * MIB
    server.assert_serves()
