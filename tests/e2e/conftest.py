"""The real server for tests: a fresh one, one that a module shares, and one with the model loaded for all.

Beside it, real vLLM-Omni servers with tiny models, which all tests of pictures and videos share, and a real vLLM server
of the OpenAI API with our server in front of it.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e import omni_server, tiny_models
from tests.e2e.model_server import ModelServer
from tests.e2e.omni_server import OmniServer
from tests.e2e.server_process import ROOT, ServerProcess

DEMO_MODEL = ROOT / "models" / "demo-vlm"


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


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> None:
    """Installs vLLM-Omni before the first test, when one needs it: within a test it would count against its timeout."""
    if not session.config.option.collectonly and any(
        "omni_environment" in getattr(item, "fixturenames", ()) for item in session.items
    ):
        omni_server.set_up()


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
    """What every test needs that starts a vLLM-Omni; skips it where that cannot be installed."""
    omni_server.require()


@pytest.fixture(scope="session")
def omni_image_server(omni_environment: None) -> Iterator[OmniServer]:
    """A vLLM-Omni with a tiny FLUX.2 klein, for the whole run; what it draws is noise."""
    with OmniServer("klein") as server:
        yield server


@pytest.fixture(scope="session")
def omni_video_server(omni_environment: None) -> Iterator[OmniServer]:
    """A vLLM-Omni with a tiny Wan2.2 S2V (a picture and a sound become a video of noise), for the whole run."""
    with OmniServer("wan-s2v") as server:
        yield server
