"""`vllm.LLM` with its requests in our hands: how each is answered, what it costs, and no trace of the refused ones."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.errors import PromptTooLong


@dataclass(frozen=True, slots=True)
class Accepted:
    """A request that the engine took.

    `request_id` is the one of its outputs; `internal_id` the one to abort it by.
    """

    request_id: str
    internal_id: str
    prompt_token_ids: Sequence[int]
    image_tokens: int | None

    @property
    def prompt_tokens(self) -> int:
        """The prompt's length."""
        return len(self.prompt_token_ids)


def stepped_llm_class() -> type[Any]:
    """The subclass of `vllm.LLM`; vLLM is imported here, in seconds."""
    from vllm import LLM

    class SteppedLLM(LLM):  # type: ignore[misc]
        """An `LLM` that leaves the kind of output as asked for and tells what `enqueue_chat` added last."""

        accepted: Accepted

        def _add_request(
            self, prompt: Any, params: Any, lora_request: Any = None, priority: int = 0, **more: Any
        ) -> str:
            request_id = str(next(self.request_counter))
            try:
                prompt_token_ids = self._prompt_token_ids(prompt)
                internal_id: str = self.llm_engine.add_request(
                    request_id, prompt, params, lora_request=lora_request, priority=priority, **more
                )
            except BaseException:
                # Added in part, it would be waited for endlessly.
                self.llm_engine.abort_request([request_id])
                self._forget_pictures(prompt)
                raise
            self.accepted = Accepted(request_id, internal_id, prompt_token_ids, image_tokens(prompt))
            return internal_id

        def _prompt_token_ids(self, prompt: Any) -> Sequence[int]:
            prompt_token_ids: Sequence[int] = prompt.get("prompt_token_ids") or ()
            max_model_len = self.llm_engine.model_config.max_model_len
            if len(prompt_token_ids) >= max_model_len:
                raise PromptTooLong(len(prompt_token_ids), max_model_len)
            return prompt_token_ids

        def _forget_pictures(self, prompt: Any) -> None:
            """Makes vLLM send these pictures in full next time.

            Rendering has put them into the sender's cache, but the engine core never got them: the next prompt with
            one of them would fail with a cache miss (vLLM 0.32) or an assertion (before).
            """
            hashes = prompt.get("mm_hashes")
            if not hashes:
                return
            cache: Any = getattr(self.llm_engine.renderer, "mm_processor_cache", None)
            if not hasattr(cache, "invalidate"):
                self.reset_mm_cache()
                return
            for mm_hash in itertools.chain.from_iterable(hashes.values()):
                cache.invalidate(mm_hash)

    return SteppedLLM


def image_tokens(prompt: Any) -> int | None:
    """How many tokens of a rendered prompt stand for pictures; `None` where vLLM does not say."""
    if prompt.get("type") not in ("token", "multimodal"):
        return None
    try:
        return sum(_embeddings(place) for place in prompt.get("mm_placeholders", {}).get("image", ()))
    except (AttributeError, TypeError):
        return None


def _embeddings(place: Any) -> int:
    counted = getattr(place, "get_num_embeds", None)
    return int(counted() if counted is not None else place.length)
