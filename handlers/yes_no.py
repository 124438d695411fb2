"""Yes-or-no questions to a model, answered by the probability of yes: P(yes) / (P(yes) + P(no))."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.interface import Conversation, Sampling

if TYPE_CHECKING:
    from engine.interface import Completion, Message

YES_NO = ("yes", "no")
UNDECIDED = "The model gave no probability for yes or no."


def yes_no_question(messages: tuple[Message, ...]) -> Conversation:
    """A question whose reply is one of `YES_NO`."""
    return Conversation(messages, Sampling(0.0, 1), enable_thinking=False, choice=YES_NO)


def probability_of(completion: Completion) -> float | None:
    """The probability of yes in the reply; `None` if there is none."""
    if completion.choice_probabilities is None:
        return None
    return round(completion.choice_probabilities[0], 6)
