"""The rules of Whisper's texts as a logits processor, which vLLM imports by its path in the process of its engine."""

from __future__ import annotations

from typing import Any

import torch
from vllm.v1.sample.logits_processor import AdapterLogitsProcessor

from engine.speech.whisper_tokens import RULES_ARGUMENT, banned

NEVER = -float("inf")


class WhisperRules(AdapterLogitsProcessor):  # type: ignore[misc]
    """Applies the rules to the requests that have some; they are `engine.speech.whisper_tokens.rules`."""

    def is_argmax_invariant(self) -> bool:
        """False: the rules change which token is the likeliest."""
        return False

    def new_req_logits_processor(self, params: Any) -> _Rules | None:
        """The processor of one request, called with its output so far and the logits of its next token."""
        rules = (params.extra_args or {}).get(RULES_ARGUMENT)
        return None if rules is None else _Rules(rules)


class _Rules:
    def __init__(self, rules: dict[str, Any]) -> None:
        self._rules = rules
        self._forced = rules["forced"]
        self._suppressed = torch.tensor(rules["suppressed"], dtype=torch.long)
        self._suppressed_first = torch.tensor(rules["suppressed_first"], dtype=torch.long)

    def __call__(self, output_ids: list[int], logits: torch.Tensor) -> torch.Tensor:
        if len(output_ids) < len(self._forced):
            logits.fill_(NEVER)
            logits[self._forced[len(output_ids)]] = 0.0
            return logits
        written = output_ids[len(self._forced) :]
        logits[self._suppressed] = NEVER
        if not written:
            logits[self._suppressed_first] = NEVER
        for start, stop in banned(written, self._rules):
            logits[start:stop] = NEVER
        if self._rules["timestamps"] and written:
            # The model is sure of a time, but not of which: all of them together are likelier than any text.
            first = self._rules["first_time"]
            chances = torch.log_softmax(logits.float(), dim=-1)
            if torch.logsumexp(chances[first:], 0) > chances[:first].max():
                logits[:first] = NEVER
        return logits
