"""What vLLM's `LLM.chat` and Hugging Face's transformers make of conversations, in a process of its own.

    with ReferenceAnswers(folder, {"greeting": [{"role": "user", "content": "Hello"}]}, max_tokens=40) as reference:
        reference["greeting"].text

Nothing of the server runs in that process. vLLM answers greedily; transformers then tells, token by token, how likely
it finds that answer, and what it would have said itself.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parents[2]
TIMEOUT_S = 280
CONTEXT_TOKENS = 4608

Json = dict[str, Any]


@dataclass(frozen=True)
class Reference:
    """One answer.

    Attributes:
        text, finish_reason, token_ids: vLLM's answer.
        prompt_token_ids: of the whole prompt in vLLM.
        template_token_ids: of the same prompt by the tokenizer of transformers alone.
        logprobs: of each of vLLM's tokens, by transformers.
        best_logprobs: of the token that transformers would have taken in its place.
    """

    text: str
    finish_reason: str
    token_ids: list[int]
    prompt_token_ids: list[int]
    template_token_ids: list[int]
    logprobs: list[float]
    best_logprobs: list[float]


class ReferenceAnswers:
    """The process and its answers; it starts with `with`, and the first answer that is asked for waits for its end."""

    def __init__(self, folder: str, conversations: Mapping[str, list[Json]], max_tokens: int) -> None:
        self._files = tempfile.TemporaryDirectory(prefix="reference-answers-")
        self._answers_file = Path(self._files.name) / "answers.json"
        self._log = Path(self._files.name) / "log"
        self._questions = {"folder": folder, "conversations": dict(conversations), "max_tokens": max_tokens}
        self._answers: dict[str, Reference] | None = None

    def __enter__(self) -> ReferenceAnswers:
        questions_file = Path(self._files.name) / "questions.json"
        questions_file.write_text(json.dumps(self._questions))
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("VLLM_", "HF_"))},
            "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "HF_HUB_OFFLINE": "1",
        }
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.e2e.reference_answers", str(questions_file), str(self._answers_file)],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        self._files.cleanup()

    def __getitem__(self, name: str) -> Reference:
        """The answer to one of the conversations.

        Raises: `RuntimeError` with the log's end when the process failed, `subprocess.TimeoutExpired`.
        """
        if self._answers is None:
            if self._process.wait(TIMEOUT_S):
                raise RuntimeError(f"the reference process failed:\n{self._log.read_text(errors='replace')[-4000:]}")
            found = json.loads(self._answers_file.read_text())
            self._answers = {each: Reference(**answer) for each, answer in found.items()}
        return self._answers[name]


def main() -> None:
    """Answers the conversations of one file into another."""
    questions_file, answers_file = sys.argv[1:]
    questions = json.loads(Path(questions_file).read_text())
    folder, conversations = questions["folder"], questions["conversations"]
    answers = _judged(folder, conversations, _answered(folder, conversations, questions["max_tokens"]))
    Path(answers_file).write_text(json.dumps({name: dataclasses.asdict(answer) for name, answer in answers.items()}))


def _answered(folder: str, conversations: Mapping[str, list[Json]], max_tokens: int) -> dict[str, Any]:
    """vLLM's outputs."""
    from vllm import LLM, SamplingParams

    llm = LLM(folder, dtype="float32", enforce_eager=True, max_model_len=CONTEXT_TOKENS)
    greedy = SamplingParams(temperature=0, max_tokens=max_tokens)
    outputs = llm.chat(list(conversations.values()), greedy, use_tqdm=False)
    return dict(zip(conversations, outputs, strict=True))


def _judged(folder: str, conversations: Mapping[str, list[Json]], outputs: Mapping[str, Any]) -> dict[str, Reference]:
    """The outputs with what transformers thinks of them."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    answers = {}
    for name, output in outputs.items():
        (answer,) = output.outputs
        n_tokens = len(answer.token_ids)
        ids = torch.tensor([[*output.prompt_token_ids, *answer.token_ids]])
        with torch.inference_mode():
            logits = model(ids, logits_to_keep=n_tokens + 1).logits[0, :-1]
        logprobs = torch.log_softmax(logits, dim=-1)
        chosen = logprobs.gather(1, ids[0, -n_tokens:, None])[:, 0]
        rendered = tokenizer.apply_chat_template(conversations[name], add_generation_prompt=True, tokenize=False)
        answers[name] = Reference(
            answer.text,
            answer.finish_reason,
            list(answer.token_ids),
            list(output.prompt_token_ids),
            tokenizer(rendered, add_special_tokens=False)["input_ids"],
            chosen.tolist(),
            logprobs.max(dim=-1).values.tolist(),
        )
    return answers


if __name__ == "__main__":
    main()
