"""Measures the model through vLLM, in this process, and prints a table: `python evaluate.py --samples 300`."""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

from samples import TASKS, Sample, evaluation_samples

MAX_TOKENS = 96


def answer_all(llm: Any, samples: list[Sample], temperature: float, seed: int) -> list[str]:
    """The model's last answer to every sample; conversations go turn by turn with the model's own earlier answers."""
    from vllm import SamplingParams

    sampling = SamplingParams(temperature=temperature, max_tokens=MAX_TOKENS, seed=seed)
    conversations = [sample.opening() for sample in samples]
    answers = [""] * len(samples)
    for turn in range(max(len(sample.turns) for sample in samples)):
        asked = [number for number, sample in enumerate(samples) if turn < len(sample.turns)]
        for number in asked:
            conversations[number].append(samples[number].message(turn))
        outputs = llm.chat([conversations[number] for number in asked], sampling, use_tqdm=False)
        for number, output in zip(asked, outputs, strict=True):
            answers[number] = output.outputs[0].text.strip()
            conversations[number].append({"role": "assistant", "content": answers[number]})
    return answers


def markdown_table(right: Counter[str], total: Counter[str]) -> str:
    """The share of right answers by task."""
    rows = [f"| {task} | {right[task]} of {total[task]} | {100 * right[task] / total[task]:.1f} % |" for task in total]
    return "\n".join(["| task | right | share |", "|---|---|---|", *rows])


def main() -> None:
    """Reads the command line, loads the engine, asks, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path(__file__).resolve().parent)
    parser.add_argument("--samples", type=int, default=300, help="samples of each task")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--tasks", nargs="*", choices=list(TASKS), help="only these tasks")
    parser.add_argument("--show-wrong", type=int, default=0, help="print so many wrong answers of each task")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()

    # Read when vLLM is imported: the engine in this process starts in seconds, and nothing is looked up on the network.
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    from vllm import LLM

    llm = LLM(
        model=str(arguments.model),
        enforce_eager=True,
        kv_cache_memory_bytes=256 << 20,
        max_model_len=2048,
        max_num_seqs=32,
        limit_mm_per_prompt={"image": 4},
        disable_log_stats=True,
    )
    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for task in arguments.tasks or TASKS:
        samples = evaluation_samples(arguments.seed, arguments.samples, (task,))
        wrong = []
        for sample, answer in zip(
            samples, answer_all(llm, samples, arguments.temperature, arguments.seed), strict=True
        ):
            total[task] += 1
            if sample.accepts(answer):
                right[task] += 1
            else:
                wrong.append(f"  {task}: {sample.turns[-1][-1]!r} expected {sample.expected!r}, answered {answer!r}")
        print("\n".join(wrong[: arguments.show_wrong]), end="\n" if wrong and arguments.show_wrong else "", flush=True)
    print(markdown_table(right, total))
    if arguments.json:
        figures = {task: {"right": right[task], "samples": total[task]} for task in total}
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
