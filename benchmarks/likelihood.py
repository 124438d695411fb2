"""`python -m benchmarks.likelihood`: how likely a text is to the model of the settings, as the server loads it.

Prints the mean negative log-likelihood of a token in nats. The first token has no probability and does not count.
"""

from __future__ import annotations

import logging
import os

import settings
from engine.interface import Control, Conversation, Message, Sampling, TextPart
from engine.local.engine import LocalEngine
from tests.spoken_texts import ENGLISH


def main() -> None:
    """Loads the model and prints the figure."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    logging.basicConfig(level=logging.WARNING)
    engine = LocalEngine(settings.initialize(os.environ, {}).engine, "WARNING")
    hello = Conversation((Message("user", (TextPart("Hello"),)),), Sampling(0.0, 1))
    engine.generate([hello], Control())  # the first generation of some models warms them up
    from vllm import SamplingParams

    loaded = engine._model
    assert loaded is not None
    ids = loaded.llm.get_tokenizer().encode(" ".join(ENGLISH.split()))
    (answer,) = loaded.llm.generate(
        [{"prompt_token_ids": ids}], SamplingParams(max_tokens=1, prompt_logprobs=0), use_tqdm=False
    )
    known = zip(ids[1:], answer.prompt_logprobs[1:], strict=True)
    print(-sum(each[token].logprob for token, each in known) / (len(ids) - 1), file=out, flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
