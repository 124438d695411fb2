"""One GPU for chat models and vLLM-Omni: what is decided, and who sleeps and wakes up when.

The machine's GPU is computed from who is awake; no real one took part.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from engine import model_catalog
from engine.hardware.gpu import Device
from engine.hardware.memory import MemoryUse
from engine.interface import EngineState
from handlers.shared_gpu import sharing
from handlers.shared_gpu.decisions import Action, decide, needed_by_generation, needed_by_load
from tests.scripted_omni import Request, ScriptedOmni, answers, refuses
from tests.unit.handlers.image_calls import SMALL, WAIT_S, Json
from tests.unit.handlers.media_answers import facts
from tests.unit.handlers.tool_client import Client
from tests.waiting import wait_until

GB = 1 << 30
TABLE: list[tuple[int | None, int | None, int, int, Action]] = [
    (None, 8, 1, 1, Action.NOTHING),
    (8, None, 1, 1, Action.NOTHING),
    (None, None, 0, 0, Action.NOTHING),
    (8, 8, 1, 1, Action.NOTHING),
    (0, 0, 1, 0, Action.NOTHING),
    (9, 8, 1, 0, Action.SLEEP),
    (9, 8, 2, 1, Action.SLEEP),
    (9, 8, 0, 1, Action.WAIT),
    (9, 8, 0, 0, Action.NOTHING),
]


@pytest.mark.parametrize(("needed", "free", "n_idle", "n_busy", "action"), TABLE)
def test_decision(needed: int | None, free: int | None, n_idle: int, n_busy: int, action: Action) -> None:
    decision = decide(needed, free, n_idle, n_busy)
    assert decision.action is action
    assert decision.reason


@pytest.mark.parametrize(
    ("whole", "others", "sleeps", "needed"),
    [
        (None, 8 * GB, False, None),
        (13 * GB, None, False, None),
        (13 * GB, 8 * GB, False, 5 * GB),
        (13 * GB, 14 * GB, False, 0),
        (13 * GB, 0, False, None),  # the server is not on this GPU
        (13 * GB, 0, True, 13 * GB),
    ],
)
def test_a_generation_needs_what_its_server_does_not_hold_yet(
    whole: int | None, others: int | None, sleeps: bool, needed: int | None
) -> None:
    assert needed_by_generation(whole, others, sleeps=sleeps) == needed


@pytest.mark.parametrize(
    ("share", "total", "held", "needed"),
    [(0.5, None, 0, None), (0.5, 24 * GB, None, 12 * GB), (0.5, 24 * GB, GB, 11 * GB), (0.1, 10 * GB, 2 * GB, 0)],
)
def test_a_load_needs_the_models_share(share: float, total: int | None, held: int | None, needed: int | None) -> None:
    assert needed_by_load(share, total, held) == needed


@dataclass
class Machine:
    """A GPU of 24 GB that a chat model and an image server share, and what they were told.

    Arguments:
        client: has the chat model, which takes 12 GB.
        omni: the image server, which holds 10 GB and needs 13 by its profile; 1 GB of it stays while it sleeps.
        n_gpus: 0 for a machine without one.
        total_gb: of the GPU.
    """

    client: Client
    omni: ScriptedOmni
    n_gpus: int = 1
    total_gb: int = 24
    sleeps: bool = False
    at_work: bool = False
    hides_processes: bool = False

    def __post_init__(self) -> None:
        self.client.services.memory_use = self.measure  # type: ignore[method-assign]
        self.client.engine.can_offload = True
        self.omni.script(self._sleep, path="/v1/omni/sleep")
        self.omni.script(self._wake_up, path="/v1/omni/wakeup")
        self.omni.script(self._metrics, path="/metrics")

    def measure(self) -> MemoryUse:
        """What the driver and the system report."""
        chat = 12 * GB if self.chat_is(EngineState.READY) else 0
        used = chat + (GB if self.sleeps else 10 * GB)
        total = self.total_gb * GB
        own = None if self.hides_processes else chat
        device = Device(0, "GPU", total, used, max(0, total - used), own, 0, 40)
        return MemoryUse(GB, 64 * GB, (device,) * self.n_gpus)

    def chat_is(self, state: EngineState) -> bool:
        """Whether the chat model is in this state."""
        return self.client.engine.status().state is state

    @property
    def told(self) -> list[str]:
        """What the image server was asked to do, in order."""
        names = {"/v1/omni/sleep": "sleep", "/v1/omni/wakeup": "wake up", "/v1/images/generations": "image"}
        return [names[path] for _, path, _ in self.omni.seen if path in names]

    def image(self, **arguments: object) -> Json:
        """Makes an image."""
        return facts(self.client, "generate_image", {"prompt": "A cat", **SMALL, **arguments})

    def _sleep(self, request: Request, fields: Json) -> None:
        assert not self.sleeps, "a second sleep would break it"
        self.sleeps = True
        acks = [{"status": "SUCCESS", "stage_id": 0, "freed_bytes": 9 * GB}]
        request.answer(json.dumps({"status": "SUCCESS", "acks": acks}).encode())

    def _wake_up(self, request: Request, fields: Json) -> None:
        was_asleep, self.sleeps = self.sleeps, False
        acks = [{"status": "SUCCESS", "stage_id": 0}]
        request.answer(
            json.dumps({"status": "SUCCESS", "acks": acks} if was_asleep else {"status": "SKIPPED"}).encode()
        )

    def _metrics(self, request: Request, fields: Json) -> None:
        lines = f'vllm_omni:num_requests_running{{stage="0"}} {int(self.at_work)}.0\n'
        request.answer(f'{lines}vllm_omni:num_requests_waiting{{stage="0"}} 0.0\n'.encode())


@pytest.fixture
def machine(
    make_client: Callable[..., Client], omni: ScriptedOmni, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Machine:
    """A machine whose two models do not fit side by side: 10 and 12 GB of 24, and 3 more for an image."""
    monkeypatch.setattr(sharing, "POLL_S", 0.01)
    client = make_client(
        VLLM_SHARE_GPU="auto",
        VLLM_GPU_MEMORY_UTILIZATION="0.55",
        OMNI_URL=omni.url,
        OMNI_OUTPUT_DIR=str(tmp_path / "out"),
    )
    return Machine(client, omni)


def test_image_has_the_idle_chat_model_sleep_where_memory_is_short(machine: Machine) -> None:
    machine.client.chat()
    assert machine.image()["status"] == "success"
    assert machine.chat_is(EngineState.OFFLOADED)
    assert machine.told[-1] == "image"
    assert "sleep" not in machine.told


def test_chat_model_stays_where_memory_is_enough(machine: Machine) -> None:
    machine.total_gb = 32
    machine.client.chat()
    machine.image()
    assert machine.chat_is(EngineState.READY)


def test_chat_has_the_idle_image_server_sleep_and_an_image_has_it_wake_up(machine: Machine) -> None:
    machine.total_gb = 20
    machine.image()
    machine.client.chat()
    assert machine.chat_is(EngineState.READY)
    assert machine.told[-1] == "sleep"
    machine.image()
    assert machine.chat_is(EngineState.OFFLOADED), "its memory was needed again"
    assert machine.told[-3:] == ["sleep", "wake up", "image"]
    machine.client.chat()
    assert machine.told[-1] == "sleep"


def test_image_server_stays_where_memory_is_enough(machine: Machine) -> None:
    machine.client.chat()
    assert machine.told == []


def test_model_in_use_is_waited_for(machine: Machine) -> None:
    hold = threading.Event()
    machine.client.engine.enqueue(hold=hold)
    chat = threading.Thread(target=machine.client.chat)
    chat.start()
    assert machine.client.engine.generating.wait(WAIT_S)
    job = machine.image(wait_s=0)
    time.sleep(0.1)
    assert "image" not in machine.told
    hold.set()
    chat.join(WAIT_S)
    assert facts(machine.client, "job_status", {"job_id": job["job_id"], "wait_s": WAIT_S})["status"] == "success"
    assert machine.chat_is(EngineState.OFFLOADED)


def test_image_is_tried_anyway_where_the_model_stays_in_use(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "WAIT_S", 0.05)
    hold = threading.Event()
    machine.client.engine.enqueue(hold=hold)
    chat = threading.Thread(target=machine.client.chat)
    chat.start()
    assert machine.client.engine.generating.wait(WAIT_S)
    assert machine.image()["status"] == "success"
    assert machine.chat_is(EngineState.READY)
    hold.set()
    chat.join(WAIT_S)


def test_chat_waits_for_the_image_and_then_has_the_server_sleep(machine: Machine) -> None:
    machine.total_gb = 20
    machine.omni.delay_s = 0.3
    job = machine.image(wait_s=0)
    wait_until(lambda: "image" in machine.told)
    machine.client.chat()
    assert machine.told == ["wake up", "image", "sleep"]
    assert facts(machine.client, "job_status", {"job_id": job["job_id"], "wait_s": WAIT_S})["status"] == "success"


def test_batch_lets_a_chat_in_between_two_images(machine: Machine) -> None:
    machine.total_gb = 20
    machine.omni.delay_s = 0.1
    arguments = {"prompts": ["a", "b", "c", "d"], "max_concurrent": 1, "wait_s": 0, **SMALL}
    batch = facts(machine.client, "batch_generate", arguments)
    wait_until(lambda: "image" in machine.told)
    machine.client.chat()
    ended = facts(machine.client, "job_status", {"job_id": batch["batch_id"], "wait_s": WAIT_S})
    assert ended["images_generated"] == 4
    assert machine.told.index("sleep") < len(machine.told) - 2
    assert machine.told[-1] == "image"


def test_server_at_work_for_another_program_is_left_alone(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "WAIT_S", 0.05)
    machine.total_gb, machine.at_work = 20, True
    machine.client.chat()
    assert "sleep" not in machine.told


@pytest.mark.parametrize(
    "route",
    [
        answers(b'{"status":"SUCCESS","acks":[{"status":"ERROR","error_msg":"cumem allocator is not available"}]}'),
        answers(b'{"status":"SUCCESS","acks":[{"status":"SUCCESS","freed_bytes":0}]}'),
        answers(b'{"status":"SUCCESS","acks":[]}'),
        answers(b"[]"),
        answers(b"<html>", 200),
        refuses(404, "Not Found"),
        refuses(501, "Engine does not support sleep"),
        refuses(500, "it broke"),
    ],
    ids=["no allocator", "nothing freed", "no ack", "array", "html", "404", "501", "500"],
)
def test_server_that_cannot_sleep_is_asked_once_and_works_on(machine: Machine, route: Callable[..., None]) -> None:
    machine.total_gb = 20
    machine.omni.script(route, path="/v1/omni/sleep")
    machine.client.chat()
    machine.client.engine.release()
    machine.client.chat()
    assert machine.told.count("sleep") == 1
    assert machine.told[-1] == "wake up", "a failed sleep lets requests wait until the server is told to wake up"
    assert machine.image()["status"] == "success"


def test_server_with_a_language_model_is_not_put_to_sleep(machine: Machine) -> None:
    machine.total_gb = 20
    model = {"id": machine.omni.model, "max_model_len": 4096}
    machine.omni.script(answers(json.dumps({"data": [model]}).encode()), path="/v1/models")
    machine.client.chat()
    assert "sleep" not in machine.told


def test_server_that_an_earlier_process_put_to_sleep_wakes_up(machine: Machine) -> None:
    machine.sleeps = True
    machine.client.chat()
    assert machine.told == [], "other programs hold too little to ask it"
    machine.image()
    assert machine.told == ["wake up", "image"]


def test_chat_works_where_the_server_is_gone(machine: Machine) -> None:
    machine.total_gb = 20
    machine.omni.shutdown()
    machine.omni.server_close()
    assert machine.client.chat().text == "reply"


def test_failed_offload_is_no_error_of_the_image(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("the driver is gone")

    machine.client.chat()
    monkeypatch.setattr(machine.client.engine, "offload", fail)
    assert machine.image()["status"] == "success"


def test_model_without_sleep_mode_is_not_asked(machine: Machine) -> None:
    machine.client.engine.can_offload = False
    machine.client.chat()
    assert machine.image()["status"] == "success"
    assert machine.chat_is(EngineState.READY)


def test_model_for_which_the_host_has_no_memory_stays(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_catalog, "weights_bytes", lambda settings: 65 * GB)
    machine.client.chat()
    assert machine.image()["status"] == "success"
    assert machine.chat_is(EngineState.READY)


def test_without_figures_nothing_is_put_to_sleep(machine: Machine) -> None:
    machine.hides_processes = True
    machine.client.chat()
    assert machine.image()["status"] == "success"
    assert machine.chat_is(EngineState.READY)


def test_cancelled_image_that_waits_is_not_counted_as_running(machine: Machine) -> None:
    hold = threading.Event()
    machine.client.engine.enqueue(hold=hold)
    chat = threading.Thread(target=machine.client.chat)
    chat.start()
    assert machine.client.engine.generating.wait(WAIT_S)
    job = machine.image(wait_s=0)
    machine.client.result("cancel_batch", {"batch_id": job["job_id"]})
    hold.set()
    chat.join(WAIT_S)
    machine.total_gb = 20
    machine.client.engine.release()
    machine.client.chat()
    assert machine.told == ["wake up", "sleep"]


@pytest.mark.parametrize("environment", [{}, {"VLLM_SHARE_GPU": "off"}, {"VLLM_SHARE_GPU": "auto"}])
def test_without_a_gpu_or_the_setting_nothing_is_asked(
    make_client: Callable[..., Client], omni: ScriptedOmni, tmp_path: Path, environment: dict[str, str]
) -> None:
    client = make_client(OMNI_URL=omni.url, OMNI_OUTPUT_DIR=str(tmp_path / "out"), **environment)
    machine = Machine(client, omni, n_gpus=0 if environment.get("VLLM_SHARE_GPU") == "auto" else 1, total_gb=20)
    client.chat()
    assert machine.image()["status"] == "success"
    client.chat()
    assert machine.chat_is(EngineState.READY)
    assert machine.told == ["image"]


def test_server_on_another_machine_is_left_alone(
    make_client: Callable[..., Client], omni: ScriptedOmni, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from handlers.shared_gpu import servers

    monkeypatch.setattr(servers, "is_on_this_machine", lambda url: False)
    client = make_client(VLLM_SHARE_GPU="auto", OMNI_URL=omni.url, OMNI_OUTPUT_DIR=str(tmp_path / "out"))
    machine = Machine(client, omni, total_gb=20)
    client.chat()
    machine.image()
    assert machine.chat_is(EngineState.READY)
    assert machine.told == ["image"]
