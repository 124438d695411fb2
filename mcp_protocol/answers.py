"""Results of tools as lines that a host takes: none longer than the limit."""

from __future__ import annotations

from mcp_protocol.call import Call
from mcp_protocol.jsonrpc import Json, encode, result_message
from mcp_protocol.tools import error_result
from mcp_protocol.versions import finished


class ToolAnswers:
    """Makes lines of results; `max_bytes` is the longest that a line may be."""

    def __init__(self, server_info: Json, max_bytes: int) -> None:
        self._server_info = server_info
        self._max_bytes = max_bytes

    def line(self, call: Call, result: Json) -> bytes:
        """The answer to a call: where it is too long without its previews, or an error instead."""
        line = self._result_line(call, result)
        n_bytes = len(line)
        if len(line) > self._max_bytes:
            line = self._result_line(call, _without_previews(result))
        if len(line) > self._max_bytes:
            text = (
                f"The result has {n_bytes} bytes; VLLM_MAX_RESULT_BYTES allows {self._max_bytes}. "
                "Ask for less at once, for example with a smaller max_tokens or fewer items."
            )
            line = self._result_line(call, error_result(text))
        return line

    def _result_line(self, call: Call, result: Json) -> bytes:
        return encode(result_message(call.request_id, finished(result, call.revision, self._server_info)))


def _without_previews(result: Json) -> Json:
    return {**result, "content": [block for block in result["content"] if block["type"] != "image"]}
