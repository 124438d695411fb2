"""The same loop as `bare_json.py` with msgspec's JSON and bare descriptors: what msgspec costs and gains."""

import os

import msgspec

TOOLS = [{"name": "echo", "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}}}]
RESULTS = {
    "initialize": {
        "protocolVersion": "2025-11-25",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "bare", "version": "1"},
    },
    "tools/list": {"tools": TOOLS},
}

buffered = b""
while data := os.read(0, 1 << 16):
    *lines, buffered = (buffered + data).split(b"\n")
    for line in lines:
        message = msgspec.json.decode(line)
        if "id" in message:
            result = RESULTS.get(message["method"])
            if result is None:
                text = message["params"]["arguments"]["text"]
                result = {"content": [{"type": "text", "text": text}], "isError": False}
            reply = {"jsonrpc": "2.0", "id": message["id"], "result": result}
            os.write(1, msgspec.json.encode(reply) + b"\n")
