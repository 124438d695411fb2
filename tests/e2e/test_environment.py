"""vLLM and its processes get neither a secret of this server nor a variable that only this server knows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.server_process import ServerProcess

SECRET = "c0ffee-for-this-server-alone"
SETTINGS = {
    "OPENAI_API_KEY": SECRET,
    "OMNI_API_KEY": SECRET,
    "VLLM_REMOTE_API_KEY": SECRET,
    "VLLM_HTTP_TOKENS": SECRET,
    "LAB_KEY": SECRET,
    "VLLM_MEDIA_FETCH_TIMEOUT": "7.5",
    "VLLM_VIDEO_FETCH_TIMEOUT": "7.5",
    "VLLM_LOG_LEVEL": "INFO",
}
HELLO = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
RECORDING = """
import os, sys, threading, time

def record():
    while "vllm.envs" not in sys.modules:
        time.sleep(0.02)
    with open(f"{os.environ['RECORD_FOLDER']}/{os.getpid()}", "w") as file:
        file.write("\\n".join(f"{name}={value}" for name, value in os.environ.items()))

threading.Thread(target=record, daemon=True).start()
"""
"""A `sitecustomize` that writes the environment of each process that has imported vLLM into a file."""


@pytest.mark.parametrize("own_process", ["0", "1"])
def test_vllm_gets_no_secret_and_no_variable_of_the_server(
    model: dict[str, str], own_process: str, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(RECORDING)
    (tmp_path / "records").mkdir()
    entries = '{"providers": [{"name": "lab", "base_url": "https://lab.example/v1", "api_key_env": "LAB_KEY"}]}'
    (tmp_path / "providers.json").write_text(entries)
    environment = {
        **model,
        **SETTINGS,
        "VLLM_CONFIG_FILE": str(tmp_path / "providers.json"),
        "VLLM_ENABLE_V1_MULTIPROCESSING": own_process,
        "RECORD_FOLDER": str(tmp_path / "records"),
        "PYTHONPATH": str(tmp_path),
    }
    with ServerProcess(environment) as server:
        server.initialize()
        assert server.result("chat_completion", HELLO)["finish_reason"] == "length"
        children = [b"\n".join(process.environment()).decode() for process in server.marked()]
        records = {int(path.name): path.read_text() for path in (tmp_path / "records").iterdir()}
        log = server.stderr
    assert server.pid in records
    assert (len(records) > 1) == (own_process == "1"), "the engine core runs in its own process"
    own = {*model, *SETTINGS, "VLLM_CONFIG_FILE"}
    for found in [*children, *records.values()]:
        assert SECRET not in found
        assert not {line.partition("=")[0] for line in found.split("\n")} & own
    assert "nknown vLLM environment variable" not in log
    assert "VLLM_VIDEO_FETCH_TIMEOUT is no longer a setting" in log
    assert SECRET not in log
