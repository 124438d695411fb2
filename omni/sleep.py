"""Sleep mode of a vLLM-Omni server: its weights leave the GPU for the host's memory, and come back.

HTTP 200 says nothing: each stage acknowledges for itself, with an error where it did not sleep (0.30).
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from http_client.redaction import plain
from omni.client import MAX_ASK_BYTES, OmniClient
from omni.errors import InvalidResponse, ServerFailed, ServerRefused

STAGES = [0]
"""A server of a diffusion model has one stage; the request has to name it (0.30)."""
MOVE_TIMEOUT_S = 120.0
"""For moving all weights, some 40 GB, over a slow bus."""
SUCCESS = "SUCCESS"
_AT_WORK = re.compile(rb"^vllm_omni:num_requests_(running|waiting)(\{.*\})? (?!0(\.0*)?$)", re.MULTILINE)
_COUNTED = re.compile(rb"^vllm_omni:num_requests_running", re.MULTILINE)
LANGUAGE_STAGE = "it also runs a language model, which vLLM-Omni cannot bring back over HTTP"
AT_WORK = "another program uses it"
FREED_NOTHING = "it frees nothing: it was not started with --enable-sleep-mode"


class Slept(msgspec.Struct, frozen=True):
    """What became of a request to sleep.

    Attributes:
        freed_bytes: what the server freed; 0 where it does not sleep.
        why_not: why it does not sleep, as the rest of a sentence; `None` where it does.
        is_busy: whether that is because it is at work now.
    """

    freed_bytes: int = 0
    why_not: str | None = None
    is_busy: bool = False


class SleepClient(OmniClient):
    """One server that may sleep; see `OmniClient`."""

    async def sleep(self) -> Slept:
        """Asks the server to move its weights to the host's memory; it must have no work.

        Raises: the client's errors. The server may sleep afterwards.
        """
        served = await self.served_model()
        if served.context_length is not None:  # only models with a language model report one
            return Slept(why_not=LANGUAGE_STAGE)
        if await self._is_at_work():
            return Slept(why_not=AT_WORK, is_busy=True)
        try:
            acks = await self._acks("sleep", {"stage_ids": STAGES, "level": 1})
        except (ServerRefused, ServerFailed, InvalidResponse) as error:
            await self._accept_requests()
            return Slept(why_not=f"its answer was: {error}")
        why_not = _problem(acks)
        freed_bytes = sum(_count(ack.get("freed_bytes")) for ack in acks)
        if why_not is None and not freed_bytes:
            why_not = FREED_NOTHING
        if why_not is not None:
            await self._accept_requests()
            return Slept(why_not=why_not)
        return Slept(freed_bytes)

    async def wake_up(self) -> str | None:
        """Has the server move its weights back; returns what went wrong, `None` if nothing did or if it was awake.

        Raises: the client's errors.
        """
        return _problem(await self._acks("wakeup", {"stage_ids": STAGES}))

    async def _accept_requests(self) -> None:
        """After a sleep that failed: until it is told to wake up, the server lets every request wait (0.30)."""
        try:
            await self.wake_up()
        except (ServerRefused, ServerFailed, InvalidResponse):
            return

    async def _is_at_work(self) -> bool:
        """Whether a request runs or waits there; also where the server does not tell."""
        try:
            metrics = await self._ask("/metrics")
        except (ServerRefused, ServerFailed, InvalidResponse):
            return True
        return not _COUNTED.search(metrics) or bool(_AT_WORK.search(metrics))

    async def _acks(self, action: str, fields: dict[str, Any]) -> list[dict[str, Any]]:
        """What each stage answers; none where the server skips the request."""
        data = await self._answer("POST", f"/v1/omni/{action}", MOVE_TIMEOUT_S, MAX_ASK_BYTES, json=fields)
        response = self._decoded(data, dict)
        if response.get("status") == "SKIPPED":
            return [{"status": SUCCESS}]
        acks = response.get("acks")
        return [ack for ack in acks if isinstance(ack, dict)] if isinstance(acks, list) else []


def _problem(acks: list[dict[str, Any]]) -> str | None:
    """What the stages say went wrong; `None` where all succeeded."""
    if not acks:
        return "no stage acknowledged it"
    failed = next((ack for ack in acks if ack.get("status") != SUCCESS), None)
    if failed is None:
        return None
    return plain(str(failed.get("error_msg") or failed.get("status"))) or "a stage failed"


def _count(figure: Any) -> int:
    return figure if isinstance(figure, int) and figure > 0 else 0
