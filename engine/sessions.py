"""Conversations that are remembered between calls, in memory.

A session's messages are an immutable tuple that `commit` replaces, so a call that fails or is cancelled changes
nothing. `plan` says what to send, `commit` stores it with the answer. One thread owns the store; counting and listing
are safe from any thread.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from engine.errors import SessionError, UnknownSession
from engine.interface import ImagePart, Message, TextPart
from settings import SessionSettings

MAX_ID_CHARACTERS = 256

Turn = tuple[Message, ...]
"""Messages up to and including the assistant's answer; the turn being planned has no answer yet."""


@dataclass(frozen=True, slots=True)
class Session:
    """A remembered conversation: the system messages, which never drop, and the turns, oldest first.

    `created` and `updated` are Unix times in seconds.
    """

    id: str
    created: float
    updated: float
    system: tuple[Message, ...] = ()
    turns: tuple[Turn, ...] = ()

    @property
    def messages(self) -> tuple[Message, ...]:
        """All messages, the system's first."""
        return (*self.system, *itertools.chain.from_iterable(self.turns))


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send for the next answer in a session; the store is unchanged until `SessionStore.commit`.

    `dropped_messages` counts those of the history that did not fit.
    """

    session_id: str
    system: tuple[Message, ...]
    turns: tuple[Turn, ...]
    new: Turn
    dropped_messages: int = 0

    @property
    def messages(self) -> tuple[Message, ...]:
        """The messages to send: system, history, new ones."""
        return (*self.system, *itertools.chain.from_iterable(self.turns), *self.new)

    def without_oldest_turn(self) -> Plan | None:
        """The plan with the oldest turn dropped, `None` when there is none left."""
        return self.without_turn(0) if self.turns else None

    def without_turn(self, number: int) -> Plan:
        """The plan with one turn dropped."""
        return dataclasses.replace(
            self,
            turns=self.turns[:number] + self.turns[number + 1 :],
            dropped_messages=self.dropped_messages + len(self.turns[number]),
        )


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """What a commit did: messages now stored, and how many of the history were dropped for it."""

    session_messages: int
    truncated_messages: int


class SessionStore:
    """The sessions of one server.

    Arguments:
        settings: how many sessions, and how much in each.
        clock: Unix time in seconds.
    """

    def __init__(self, settings: SessionSettings, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._clock = clock
        self._sessions: dict[str, Session] = {}

    def __len__(self) -> int:
        return len(self._sessions)

    def list(self) -> tuple[Session, ...]:
        """All sessions, oldest created first."""
        return tuple(self._sessions.values())

    def get(self, session_id: str) -> Session:
        """The session of that id.

        Raises: `UnknownSession`.
        """
        try:
            return self._sessions[session_id]
        except KeyError:
            raise UnknownSession(session_id) from None

    def delete(self, session_id: str) -> bool:
        """Forgets a session; False when there was none."""
        return self._sessions.pop(session_id, None) is not None

    def plan(self, session_id: str, new_messages: Sequence[Message], max_images: int) -> Plan:
        """Merges new messages with what is remembered, and drops the oldest turns that do not fit.

        A system message among the new ones takes the place of the session's. For too many pictures (in the prompt, or
        in bytes) the oldest turns that hold pictures drop, for too many messages the oldest turns. Results of tools
        continue the turn in which they were called for, which is then a part of the plan's `new` and stays.

        Arguments: `max_images`, how many pictures one prompt may hold.
        Raises: `SessionError` for a wrong id, and when the new messages alone are too much.
        """
        check_id(session_id)
        known = self._sessions.get(session_id)
        shared = {part.digest: part for message in known.messages for part in message.images} if known else {}
        new = tuple(_sharing(message, shared) for message in new_messages)
        system = tuple(message for message in new if message.role == "system") or (known.system if known else ())
        said = tuple(message for message in new if message.role != "system")
        if not said:
            raise SessionError("The new messages hold nothing to answer: add a user message.")
        turns = known.turns if known else ()
        if turns and said[0].role == "tool":
            turns, said = turns[:-1], (*turns[-1], *said)
        plan = Plan(session_id, system, turns, said)
        self._refuse_too_much(plan, max_images)
        while _n_images(plan.messages) > max_images or _image_bytes(plan.messages) > self._settings.max_session_bytes:
            plan = plan.without_turn(_oldest_with_images(plan))
        while self._stored_messages(plan) > self._settings.max_session_messages:
            plan = plan.without_turn(0)
        return plan

    def commit(self, plan: Plan, answer: Message) -> SessionInfo:
        """Stores a planned turn with its answer; a new session may push out the one created first."""
        now = self._clock()
        known = self._sessions.get(plan.session_id)
        session = Session(
            plan.session_id,
            known.created if known else now,
            now,
            plan.system,
            (*plan.turns, *_turns((*plan.new, answer))),
        )
        while known is None and len(self._sessions) >= self._settings.max_sessions:
            del self._sessions[next(iter(self._sessions))]
        self._sessions[plan.session_id] = session
        return SessionInfo(len(session.messages), plan.dropped_messages)

    def _refuse_too_much(self, plan: Plan, max_images: int) -> None:
        alone = (*plan.system, *plan.new)
        most_messages, most_bytes = self._settings.max_session_messages, self._settings.max_session_bytes
        if len(alone) + 1 > most_messages:
            raise SessionError(
                f"The call has {len(alone)} messages (the system message counts, and the turn that results of tools "
                f"continue), and a session holds {most_messages} with the answer. Send fewer, or raise "
                "VLLM_MAX_SESSION_MESSAGES."
            )
        if _n_images(alone) > max_images:
            raise SessionError(
                f"The call brings {_n_images(alone)} pictures, and a prompt may hold {max_images}. Send fewer, or "
                "raise VLLM_MAX_IMAGES_PER_PROMPT."
            )
        if _image_bytes(alone) > most_bytes:
            raise SessionError(
                f"The call's pictures take {_image_bytes(alone)} bytes when decoded, and a session holds {most_bytes}. "
                "Send smaller pictures, or raise VLLM_MAX_SESSION_BYTES."
            )

    def _stored_messages(self, plan: Plan) -> int:
        return len(plan.messages) + 1


def check_id(session_id: str) -> None:
    """Refuses an id that is empty, longer than 256 characters, or not printable.

    Raises: `SessionError`.
    """
    if not 1 <= len(session_id) <= MAX_ID_CHARACTERS or not session_id.isprintable():
        raise SessionError(f"A session_id has 1 to {MAX_ID_CHARACTERS} printable characters.")


def _sharing(message: Message, shared: dict[str, ImagePart]) -> Message:
    """The message with pictures that the session holds already replaced by those; new ones are added to `shared`."""
    if not message.images:
        return message
    content: tuple[TextPart | ImagePart, ...] = tuple(
        shared.setdefault(part.digest, part) if isinstance(part, ImagePart) else part for part in message.content
    )
    return dataclasses.replace(message, content=content)


def _turns(messages: Sequence[Message]) -> Iterator[Turn]:
    """Cuts messages into turns: a user's message that follows another speaker's opens a new one."""
    begin = 0
    for number in range(1, len(messages)):
        if messages[number].role == "user" != messages[number - 1].role:
            yield tuple(messages[begin:number])
            begin = number
    yield tuple(messages[begin:])


def _n_images(messages: Iterable[Message]) -> int:
    return sum(len(message.images) for message in messages)


def _image_bytes(messages: Iterable[Message]) -> int:
    """Bytes of the decoded pictures; one that appears twice is held once."""
    held = {part.digest: part.n_bytes for message in messages for part in message.images}
    return sum(held.values())


def _oldest_with_images(plan: Plan) -> int:
    return next(number for number, turn in enumerate(plan.turns) if _n_images(turn))
