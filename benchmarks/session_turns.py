"""Turns 2 to 20 of a conversation with an image in its first message, in three ways.

In a session: only the new message is sent. All again: the client keeps the conversation and sends all of it each time,
including the image. All again, nothing cached: the same with a new image each time, so that vLLM's prefix cache has
none of it; this is the cost of turns without these caches. The ways take turns, each conversation with its own image.
Cached tokens are the prompt tokens that vLLM did not compute again.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable

from benchmarks.engines import Messages, OurServer
from benchmarks.pipe_server import Json
from benchmarks.prompts import Prompts, user
from benchmarks.raw_engine import Answer
from benchmarks.results import Cell, Findings, Table
from benchmarks.run import Run

TITLE = "Turns of a session"
MAX_TOKENS = 16
SESSION_ID = "turns"
FIRST_QUESTION = "Describe this image."
QUESTIONS = ("What colour is it?", "How many?", "Where is it?", "And what else?")

Way = Callable[[OurServer, Prompts, int], list[Answer]]


def measure(run: Run) -> Findings:
    """Holds a conversation in each way, several times."""
    n_wanted, n_rounds = run.pick(full=20, quick=5), run.pick(full=9, quick=1)
    prompts = Prompts(seed=2)
    held: dict[str, list[list[Answer]]] = {name: [] for name in WAYS}
    with OurServer(run.model) as server:
        n_turns = _n_turns_in_context(_in_a_session(server, prompts, n_wanted))
        for hold in WAYS.values():
            hold(server, prompts, 2)
        for _ in range(n_rounds):
            for name, hold in WAYS.items():
                held[name].append(hold(server, prompts, n_turns))
    notes = [f"{n_rounds} conversations of each way, {MAX_TOKENS} tokens a turn; times are medians over them."]
    if n_turns < n_wanted:
        notes.append(f"The model's context holds only {n_turns} turns of it.")
    return Findings([_turns_table(held, n_turns), _sums_table(held)], [], notes)


def _n_turns_in_context(answers: list[Answer]) -> int:
    """How many turns fit before the server drops the oldest ones and prompts stop growing."""
    for number in range(1, len(answers)):
        if answers[number].prompt_tokens <= answers[number - 1].prompt_tokens:
            return number
    return len(answers)


def _in_a_session(server: OurServer, prompts: Prompts, n_turns: int) -> list[Answer]:
    url = prompts.data_url()
    answers = [server.chat([_new_message(turn, url)], MAX_TOKENS, session_id=SESSION_ID) for turn in range(n_turns)]
    server.call("delete_session", {"session_id": SESSION_ID})
    return answers


def _all_again(server: OurServer, prompts: Prompts, n_turns: int) -> list[Answer]:
    url = prompts.data_url()
    return _resend(server, lambda: url, n_turns)


def _all_again_uncached(server: OurServer, prompts: Prompts, n_turns: int) -> list[Answer]:
    return _resend(server, prompts.data_url, n_turns)


def _resend(server: OurServer, image_url: Callable[[], str], n_turns: int) -> list[Answer]:
    answers: list[Answer] = []
    for turn in range(n_turns):
        url = image_url()
        messages: Messages = []
        for number, answer in enumerate(answers):
            messages += [_new_message(number, url), {"role": "assistant", "content": answer.texts[0]}]
        answers.append(server.chat([*messages, _new_message(turn, url)], MAX_TOKENS))
    return answers


WAYS: dict[str, Way] = {
    "session": _in_a_session,
    "all again": _all_again,
    "all again, nothing cached": _all_again_uncached,
}


def _new_message(turn: int, image_url: str) -> Json:
    if turn == 0:
        return user(FIRST_QUESTION, image_url)
    return user(QUESTIONS[turn % len(QUESTIONS)])


def _turns_table(held: dict[str, list[list[Answer]]], n_turns: int) -> Table:
    columns = ["turn", "prompt tokens"]
    for name in held:
        columns += [f"{name} ms", "cached tokens"]
    rows: list[list[Cell]] = []
    for turn in range(1, n_turns):
        row: list[Cell] = [turn + 1, round(_median(held["session"], turn, lambda answer: answer.prompt_tokens))]
        for conversations in held.values():
            row.append(1000 * _median(conversations, turn, lambda answer: answer.seconds))
            row.append(round(_median(conversations, turn, lambda answer: answer.cached_tokens or 0)))
        rows.append(row)
    return Table("each turn", columns, rows)


def _sums_table(held: dict[str, list[list[Answer]]]) -> Table:
    sums = {
        name: statistics.median(sum(answer.seconds for answer in answers[1:]) for answers in conversations)
        for name, conversations in held.items()
    }
    rows: list[list[Cell]] = [
        [name, 1000 * seconds, f"{seconds / sums['session']:.2f}×"] for name, seconds in sums.items()
    ]
    return Table("all turns after the first", ["way", "ms", "against the session"], rows)


def _median(conversations: list[list[Answer]], turn: int, value: Callable[[Answer], float]) -> float:
    return statistics.median(value(answers[turn]) for answers in conversations)
