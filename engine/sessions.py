"""Conversations that are remembered between calls: what is sent of them, and what is added to them.

A session is immutable and `commit` replaces it, so a call that fails or is cancelled changes nothing. `plan` says what
to send, `commit` stores it with the answer. Where sessions are kept is the keeper's matter. Any thread may use the
store; two turns of one session have to come one after another, else the later commit replaces the earlier one.
"""

from __future__ import annotations

import dataclasses
import itertools
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from engine.errors import SessionError, UnknownSession
from engine.interface import ImagePart, Message, TextPart
from engine.session import Session, SessionRow, Turn, image_bytes, images_of
from engine.session_memory import Keeper, SessionMemory
from settings import SessionSettings

MAX_ID_CHARACTERS = 256
FORK_BYTES = 8
"""Random bytes in the name of a copy: whoever may not list the sessions cannot guess it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What to send for the next answer in a session; the store is unchanged until `SessionStore.commit`.

    `base` is the session that goes on, `None` for a new one or a copy. `dropped_messages` counts those of the history
    that did not fit.
    """

    session_id: str
    base: Session | None
    system: tuple[Message, ...]
    turns: tuple[Turn, ...]
    new: tuple[Message, ...]
    dropped_messages: int = 0

    @property
    def messages(self) -> tuple[Message, ...]:
        """The messages to send: system, history, new ones."""
        return (*self.system, *itertools.chain.from_iterable(turn.messages for turn in self.turns), *self.new)

    @property
    def images(self) -> tuple[ImagePart, ...]:
        """The pictures to send."""
        history = itertools.chain.from_iterable(turn.images for turn in self.turns)
        return (*images_of(self.system), *history, *images_of(self.new))

    @property
    def n_messages(self) -> int:
        """How many messages there will be with the answer."""
        return len(self.system) + sum(len(turn.messages) for turn in self.turns) + len(self.new) + 1

    def without_oldest_turn(self) -> Plan | None:
        """The plan with the oldest turn dropped, `None` when there is none left."""
        return self.without_turn(0) if self.turns else None

    def without_turn(self, number: int) -> Plan:
        """The plan with one turn dropped."""
        return dataclasses.replace(
            self,
            turns=self.turns[:number] + self.turns[number + 1 :],
            dropped_messages=self.dropped_messages + len(self.turns[number].messages),
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
        keeper: where they are kept; in memory by default.
    """

    def __init__(
        self, settings: SessionSettings, clock: Callable[[], float] = time.time, keeper: Keeper | None = None
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._keeper = keeper if keeper is not None else SessionMemory(settings.max_sessions)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.list())

    def list(self) -> tuple[SessionRow, ...]:
        """What there is to tell of all sessions, oldest created first."""
        with self._lock:
            return tuple(self._keeper.rows())

    def get(self, session_id: str) -> Session:
        """The session of that id.

        Raises: `UnknownSession`.
        """
        with self._lock:
            found = self._keeper.find(session_id) if _is_id(session_id) else None
        if found is None:
            raise UnknownSession(session_id)
        return found

    def delete(self, session_id: str) -> bool:
        """Forgets a session; False when there was none.

        Raises: `StoreUnavailable` when it cannot be forgotten now.
        """
        with self._lock:
            return _is_id(session_id) and self._keeper.delete(session_id)

    def problem(self) -> str | None:
        """What is wrong with how the sessions are kept; `None` when all is well."""
        with self._lock:
            return self._keeper.problem()

    def close(self) -> None:
        """Lets go of what the keeper has open; called once, at the end of the server, from any thread."""
        self._keeper.close()

    def plan(
        self,
        session_id: str,
        new_messages: Sequence[Message],
        max_images: int,
        *,
        fork: bool = False,
        fork_id: str | None = None,
    ) -> Plan:
        """Merges new messages with what is remembered, and drops the oldest turns that do not fit.

        A system message among the new ones takes the place of the session's. For too many pictures (in the prompt, or
        in bytes) the oldest turns that hold pictures drop, for too many messages the oldest turns. Results of tools
        continue the turn in which they were called for, which is then a part of the plan's `new` and stays.

        Arguments: `max_images`, how many pictures one prompt may hold; `fork`, whether a copy of the session goes on
        in its place; `fork_id`, what to call the copy, a name that cannot be guessed by default.
        Raises: `SessionError` for a wrong id, and when the new messages alone are too much; `UnknownSession` when
        there is nothing to copy.
        """
        check_id(session_id)
        target = session_id
        with self._lock:
            known = self._keeper.find(session_id)
            if fork:
                if known is None:
                    raise UnknownSession(session_id)
                target = self._name_of_copy(session_id, fork_id)
        shared = {image.digest: image for image in known.images} if known else {}
        new = tuple(_sharing(message, shared) for message in new_messages)
        system = tuple(message for message in new if message.role == "system") or (known.system if known else ())
        said = tuple(message for message in new if message.role != "system")
        if not said:
            raise SessionError("The new messages hold nothing to answer: add a user message.")
        turns = known.turns if known else ()
        if turns and said[0].role == "tool":
            turns, said = turns[:-1], (*turns[-1].messages, *said)
        plan = Plan(target, None if fork else known, system, turns, said)
        self._refuse_too_much(plan, max_images)
        while len(plan.images) > max_images or image_bytes(plan.images) > self._settings.max_session_bytes:
            plan = plan.without_turn(_oldest_with_images(plan))
        while plan.n_messages > self._settings.max_session_messages:
            plan = plan.without_turn(0)
        return plan

    def commit(self, plan: Plan, answer: Message) -> SessionInfo:
        """Stores a planned turn with its answer; a new session may push out the one created first."""
        turns = (*plan.turns, *_turns((*plan.new, answer)))
        with self._lock:
            now = self._clock()
            session = Session(plan.session_id, plan.base.created if plan.base else now, now, plan.system, turns)
            self._keeper.save(session, plan.base)
        return SessionInfo(session.n_messages, plan.dropped_messages)

    def _name_of_copy(self, session_id: str, wanted: str | None) -> str:
        if wanted is None:
            suffix = f"-fork-{secrets.token_hex(FORK_BYTES)}"
            return session_id[: MAX_ID_CHARACTERS - len(suffix)] + suffix
        check_id(wanted)
        if self._keeper.find(wanted) is not None:
            raise SessionError(f"There is a session {wanted!r} already. Choose another name for the copy, or none.")
        return wanted

    def _refuse_too_much(self, plan: Plan, max_images: int) -> None:
        alone = (*plan.system, *plan.new)
        most_messages, most_bytes = self._settings.max_session_messages, self._settings.max_session_bytes
        if len(alone) + 1 > most_messages:
            raise SessionError(
                f"The call has {len(alone)} messages (the system message counts, and the turn that results of tools "
                f"continue), and a session holds {most_messages} with the answer. Send fewer, or raise "
                "VLLM_MAX_SESSION_MESSAGES."
            )
        images = images_of(alone)
        if len(images) > max_images:
            raise SessionError(
                f"The call brings {len(images)} pictures, and a prompt may hold {max_images}. Send fewer, or "
                "raise VLLM_MAX_IMAGES_PER_PROMPT."
            )
        if image_bytes(images) > most_bytes:
            raise SessionError(
                f"The call's pictures take {image_bytes(images)} bytes when decoded, and a session holds {most_bytes}. "
                "Send smaller pictures, or raise VLLM_MAX_SESSION_BYTES."
            )


def check_id(session_id: str) -> None:
    """Refuses an id that is empty, longer than 256 characters, or not printable.

    Raises: `SessionError`.
    """
    if not _is_id(session_id):
        raise SessionError(f"A session_id has 1 to {MAX_ID_CHARACTERS} printable characters.")


def _is_id(session_id: str) -> bool:
    return 1 <= len(session_id) <= MAX_ID_CHARACTERS and session_id.isprintable()


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
            yield Turn(tuple(messages[begin:number]))
            begin = number
    yield Turn(tuple(messages[begin:]))


def _oldest_with_images(plan: Plan) -> int:
    return next(number for number, turn in enumerate(plan.turns) if turn.images)
