"""The host reads nothing for a while. `STALL_S=60` makes it a minute; the usual run is shorter."""

from __future__ import annotations

import os
import signal
import threading
import time

from tests.e2e.server_process import ServerProcess

STALL_S = float(os.environ.get("STALL_S", "4"))
N_LISTS, N_CALLS = 60, 120


def test_reader_that_stalls_under_megabytes_loses_nothing() -> None:
    environment = {"VLLM_LOG_LEVEL": "DEBUG"}
    with ServerProcess(environment, read_stdout=False, read_stderr=False) as server:
        lists = [f"list {number}" for number in range(N_LISTS)]
        calls = [f"call {number}" for number in range(N_CALLS)]

        def ask() -> None:
            """Sends as fast as the server reads, which at some point it does no more."""
            for number in range(N_CALLS):
                server.send_call("model_info", request_id=calls[number])
                if number < N_LISTS:
                    server.send_request("tools/list", request_id=lists[number])

        sender = threading.Thread(target=ask)
        sender.start()
        server.wait_for_output()
        time.sleep(STALL_S)  # the fault itself
        server.start_reading()
        answers = [server.read_message() for _ in range(N_LISTS + N_CALLS)]
        sender.join()
        ids = [answer["id"] for answer in answers]
        assert [name for name in ids if name.startswith("list")] == lists
        assert [name for name in ids if name.startswith("call")] == calls
        assert all("result" in answer for answer in answers)
        assert sum(map(len, server.raw_lines)) > 2 << 20
        server.assert_serves()
        begin_s = time.monotonic()
        server.signal(signal.SIGTERM)
        server.assert_ends_promptly(begin_s)
