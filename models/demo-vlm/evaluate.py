"""Measures the model through the real server, over MCP, and prints a table: `python evaluate.py --samples 300`."""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from samples import TASKS, Sample, evaluation_samples

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples"))

from stdio_client import Json, StdioClient  # noqa: E402

MAX_TOKENS = 96
BATCH_CONVERSATIONS = 32


def answer_all(
    server: StdioClient, samples: Sequence[Sample], temperature: float, seed: int, *, text_first: bool = False
) -> list[str]:
    """The model's last answer to every sample; conversations go turn by turn with the model's own earlier answers."""
    conversations = [sample.opening() for sample in samples]
    answers = [""] * len(samples)
    for turn in range(max(len(sample.turns) for sample in samples)):
        asked = [number for number, sample in enumerate(samples) if turn < len(sample.turns)]
        for number in asked:
            conversations[number].append(samples[number].message(turn, text_first=text_first))
        for number, answer in zip(
            asked, _ask(server, [conversations[n] for n in asked], temperature, seed), strict=True
        ):
            answers[number] = answer
            conversations[number].append({"role": "assistant", "content": answer})
    return answers


def _ask(server: StdioClient, conversations: list[list[Json]], temperature: float, seed: int) -> list[str]:
    answers: list[str] = []
    for start in range(0, len(conversations), BATCH_CONVERSATIONS):
        arguments = {
            "conversations": conversations[start : start + BATCH_CONVERSATIONS],
            "temperature": temperature,
            "seed": seed,
            "max_tokens": MAX_TOKENS,
        }
        results = server.call_tool("chat_completion_batch", arguments)["structuredContent"]["results"]
        answers += [str(item["text"] or item["error"]).strip() for item in results]
    return answers


def markdown_table(right: Counter[str], total: Counter[str]) -> str:
    """The share of right answers by task."""
    rows = [f"| {task} | {right[task]} of {total[task]} | {100 * right[task] / total[task]:.1f} % |" for task in total]
    return "\n".join(["| task | right | share |", "|---|---|---|", *rows])


def main() -> None:
    """Reads the command line, starts the server, asks, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=300, help="samples of each task")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--text-first", action="store_true", help="put the text of a message before its pictures")
    parser.add_argument("--tasks", nargs="*", choices=list(TASKS), help="only these tasks")
    parser.add_argument("--show-wrong", type=int, default=0, help="print so many wrong answers of each task")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()

    right: Counter[str] = Counter()
    total: Counter[str] = Counter()
    with StdioClient([sys.executable, str(ROOT / "vllm_server.py"), "--log-level", "ERROR"]) as server:
        server.initialize()
        for task in arguments.tasks or TASKS:
            samples = evaluation_samples(arguments.seed, arguments.samples, (task,))
            answers = answer_all(
                server, samples, arguments.temperature, arguments.seed, text_first=arguments.text_first
            )
            wrong = [
                (sample, answer) for sample, answer in zip(samples, answers, strict=True) if not sample.accepts(answer)
            ]
            total[task] = len(samples)
            right[task] = len(samples) - len(wrong)
            for sample, answer in wrong[: arguments.show_wrong]:
                print(
                    f"  {task}: {sample.turns[-1][-1]!r} expected {sample.expected!r}, answered {answer!r}", flush=True
                )
    print(markdown_table(right, total))
    if arguments.json:
        figures = {task: {"right": right[task], "samples": total[task]} for task in total}
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
