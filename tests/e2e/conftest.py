"""The real server for tests: a new one, one that a module shares, and one with a loaded model for the whole run.

The whole run also shares vLLM-Omni servers with tiny models, and a vLLM server of the OpenAI API with our server in
front of it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e import omni_server, real_models, tiny_models
from tests.e2e.model_server import ModelServer
from tests.e2e.omni_server import OmniServer
from tests.e2e.server_process import ROOT, ServerProcess

DEMO_MODEL = ROOT / "models" / "demo-vlm"
SHARED_SERVERS = ("omni_video_server", "omni_image_server", "omni_speech_server", "model_server")
"""The fixtures of servers that take long to start and that all tests of a run share."""

if "PYTEST_XDIST_WORKER" in os.environ:
    # Engines in several processes would wait for each other's cores at the end of each parallel region.
    os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture
def server() -> Iterator[ServerProcess]:
    """A server of the test's own, with default settings and nothing loaded."""
    with ServerProcess() as process:
        yield process


@pytest.fixture(scope="module")
def shared_server() -> Iterator[ServerProcess]:
    """One server for a module's tests of single messages, each of which must leave it serving."""
    with ServerProcess() as process:
        yield process


@pytest.fixture(scope="session")
def model() -> dict[str, str]:
    """The settings of a model that loads: the bundled one, or where its weights are not there a tiny random one."""
    if (DEMO_MODEL / "config.json").exists() and (DEMO_MODEL / "model.safetensors").exists():
        return {"VLLM_MODEL_NAME": str(DEMO_MODEL)}
    return {"VLLM_MODEL_NAME": str(tiny_models.vision_model()), "VLLM_CPU_KVCACHE_SPACE": "0.25"}


@pytest.fixture(scope="session")
def demo_server(model: dict[str, str]) -> Iterator[ServerProcess]:
    """One server for the whole run, initialized and with the model loaded; tests must leave it as they found it."""
    with ServerProcess({**model, "GPU_IDLE_TIMEOUT": "0"}) as process:
        process.initialize()
        hello = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1}
        process.result("chat_completion", hello)
        yield process


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Has all modules that use a server of the whole run tested in one process, so that each server is started once.

    All others are distributed by module. The marks of xdist's `--dist loadgroup` have no effect with pytest 9.2.
    """
    from xdist.scheduler.loadscope import LoadScopeScheduling

    class ByServer(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            module = nodeid.partition("::")[0]
            text = (ROOT / module).read_text("utf-8")
            return "shared servers" if any(server in text for server in SHARED_SERVERS) else module

    return ByServer(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Makes what takes minutes before the first test, when one needs it: within a test it would count as its time.

    That is vLLM-Omni's environment, and the real models.
    """
    if session.config.option.collectonly:
        return
    if any("omni_environment" in getattr(item, "fixturenames", ()) for item in session.items):
        omni_server.set_up()
    if any("real_models" in module.read_text("utf-8") for module in {item.path for item in session.items}):
        real_models.make_all()


@pytest.fixture(scope="session")
def model_server() -> Iterator[ModelServer]:
    """A vLLM server with the bundled model, for the whole run."""
    if not (DEMO_MODEL / "model.safetensors").exists():
        pytest.skip("the bundled model is not there")
    with ModelServer(DEMO_MODEL) as server:
        yield server


@pytest.fixture(scope="session")
def remote_server(model_server: ModelServer) -> Iterator[ServerProcess]:
    """Our server in front of that one; tests must leave it as they found it."""
    with ServerProcess({"VLLM_BASE_URL": f"{model_server.url}/v1", "VLLM_REMOTE_API_KEY": ModelServer.KEY}) as process:
        process.initialize()
        yield process


@pytest.fixture(scope="session")
def omni_environment() -> None:
    """The environment of vLLM-Omni; skips the test where it cannot be installed, which CI does not allow."""
    omni_server.require()


@pytest.fixture(scope="session")
def omni_image_server(omni_environment: None) -> Iterator[OmniServer]:
    """A vLLM-Omni with a tiny FLUX.2 klein, for the whole run; what it draws is noise."""
    with OmniServer("klein") as server:
        yield server


@pytest.fixture(scope="session")
def omni_video_server(omni_environment: None) -> Iterator[OmniServer]:
    """A vLLM-Omni with a tiny Wan2.2 S2V (an image and a sound become a video of noise), for the whole run."""
    with OmniServer("wan-s2v") as server:
        yield server


@pytest.fixture(scope="session")
def omni_speech_server(omni_environment: None) -> Iterator[OmniServer]:
    """A vLLM-Omni with a tiny OmniVoice (a text becomes noise that is as long as speech), for the whole run."""
    with OmniServer("omnivoice") as server:
        yield server
