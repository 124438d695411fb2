"""`llama_cpp.py MODEL.gguf TOKENS`: llama.cpp behind two pipes, for the benchmark of generation on a CPU.

A line is a JSON list of questions, which are answered side by side; the reply is the seconds that took and the number
of generated tokens.
"""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import xllamacpp

MAX_PARALLEL = 16
CONTEXT = 1024


def main() -> None:
    """Answers until stdin ends."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # the library logs to stdout
    max_tokens = int(sys.argv[2])
    params = xllamacpp.CommonParams()
    params.model.path = sys.argv[1]
    params.n_parallel = MAX_PARALLEL
    params.n_ctx = CONTEXT * MAX_PARALLEL
    params.cpuparams.n_threads = len(os.sched_getaffinity(0))
    server = xllamacpp.Server(params)

    def n_tokens(question: str) -> int:
        asked = {"messages": [{"role": "user", "content": question}], "max_tokens": max_tokens, "temperature": 0}
        answer = server.handle_chat_completions({**asked, "ignore_eos": True, "cache_prompt": False})
        return int(answer["usage"]["completion_tokens"])

    with ThreadPoolExecutor(MAX_PARALLEL) as threads:
        print("ready", file=out)
        for line in sys.stdin:
            begin_s = time.perf_counter()
            total = sum(threads.map(n_tokens, json.loads(line)))
            print(json.dumps([time.perf_counter() - begin_s, total]), file=out)


if __name__ == "__main__":
    main()
