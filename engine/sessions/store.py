"""Plans and stores the turns of sessions.

`plan` selects the messages to send, `commit` stores them with the reply. A session is immutable and `commit` replaces
it, so a call that fails or is cancelled changes nothing. Any thread may use the store. Turns of one session must not
overlap, or the later commit replaces the earlier one.
"""

from __future__ import annotations

import dataclasses
import itertools
import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

from engine.errors import SessionError, UnknownSession
from engine.interface import Message, TextPart
from engine.parts import NOUNS, Media, Part, media_bytes, too_many
from engine.sessions.backend import MemoryBackend, SessionBackend
from engine.sessions.left_out import without_media
from engine.sessions.session import Session, SessionRow, Turn, media_of
from settings import SessionSettings

MAX_ID_CHARACTERS = 256
FORK_BYTES = 8
"""Random bytes in the id of a copy: a client that may not list the sessions cannot guess it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """The messages to send for the next turn; the store is unchanged until `SessionStore.commit`.

    `base` is the session to continue, `None` for a new one or a copy. `accepts` are the kinds of media that are sent.
    `dropped_messages` counts the messages of the history that did not fit.
    """

    session_id: str
    base: Session | None
    system: tuple[Message, ...]
    turns: tuple[Turn, ...]
    new: tuple[Message, ...]
    accepts: Collection[str] = tuple(NOUNS)
    dropped_messages: int = 0

    @property
    def messages(self) -> tuple[Message, ...]:
        """The messages to send: system, history, new messages; media that are not sent have a note in their place."""
        stored = (*self.system, *itertools.chain.from_iterable(turn.messages for turn in self.turns), *self.new)
        return tuple(without_media(message, self.accepts) for message in stored)

    @property
    def media(self) -> tuple[Media, ...]:
        """The images, audio and videos of these messages, sent or not."""
        history = itertools.chain.from_iterable(turn.media for turn in self.turns)
        return (*media_of(self.system), *history, *media_of(self.new))

    @property
    def n_messages(self) -> int:
        """The number of messages including the reply."""
        return len(self.system) + sum(len(turn.messages) for turn in self.turns) + len(self.new) + 1

    def without_oldest_turn(self) -> Plan | None:
        """The plan without the oldest turn; `None` if there is no turn left."""
        return self.without_turn(0) if self.turns else None

    def without_turn(self, number: int) -> Plan:
        """The plan without one turn."""
        return dataclasses.replace(
            self,
            turns=self.turns[:number] + self.turns[number + 1 :],
            dropped_messages=self.dropped_messages + len(self.turns[number].messages),
        )


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """The result of a commit: how many messages are stored now, and how many were dropped."""

    session_messages: int
    truncated_messages: int


class SessionStore:
    """The sessions of one server.

    Arguments:
        settings: the limits of sessions.
        clock: Unix time in seconds.
        backend: where sessions are stored; in memory by default.
    """

    def __init__(
        self, settings: SessionSettings, clock: Callable[[], float] = time.time, backend: SessionBackend | None = None
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._backend = backend if backend is not None else MemoryBackend(settings.max_sessions)
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self.list())

    def list(self) -> tuple[SessionRow, ...]:
        """All sessions, oldest first."""
        with self._lock:
            return tuple(self._backend.rows())

    def get(self, session_id: str) -> Session:
        """The session with that id; raises `UnknownSession`."""
        with self._lock:
            found = self._backend.find(session_id) if _is_id(session_id) else None
        if found is None:
            raise UnknownSession(session_id)
        return found

    def delete(self, session_id: str) -> bool:
        """Deletes a session; returns False if there was none.

        Raises: `StoreUnavailable` when it cannot be deleted now.
        """
        with self._lock:
            return _is_id(session_id) and self._backend.delete(session_id)

    def problem(self) -> str | None:
        """What is wrong with the storage; `None` if nothing is."""
        with self._lock:
            return self._backend.problem()

    def close(self) -> None:
        """Closes the backend; called once, when the server ends, from any thread."""
        self._backend.close()

    def plan(
        self,
        session_id: str,
        new_messages: Sequence[Message],
        max_images: int,
        *,
        accepts: Collection[str] = tuple(NOUNS),
        fork: bool = False,
        fork_id: str | None = None,
    ) -> Plan:
        """Appends new messages to the stored ones, and drops the oldest turns that do not fit.

        New system messages replace the stored ones. If there are too many images, audio parts or videos, or too many
        bytes of them, the oldest turns with such are dropped; if there are too many messages, the oldest turns. Tool
        results continue the turn with the tool calls, which then becomes part of the plan's `new` and is not dropped.

        Arguments:
            session_id: of the session to continue, or to create.
            new_messages: the messages of the call.
            max_images: the maximum number of images in a prompt, and of audio parts, and of videos.
            accepts: the kinds of media that the model accepts; others are stored, but not sent.
            fork: whether to continue a copy of the session.
            fork_id: the id of the copy; by default one that cannot be guessed.

        Raises: `SessionError` for an invalid id, and when the new messages alone exceed a limit; `UnknownSession` when
        there is no session to copy.
        """
        check_id(session_id)
        target = session_id
        with self._lock:
            known = self._backend.find(session_id)
            if fork:
                if known is None:
                    raise UnknownSession(session_id)
                target = self._id_of_copy(session_id, fork_id)
        shared = {part.digest: part for part in known.media} if known else {}
        new = tuple(_sharing(message, shared) for message in new_messages)
        system = tuple(message for message in new if message.role == "system") or (known.system if known else ())
        rest = tuple(message for message in new if message.role != "system")
        if not rest:
            raise SessionError("The new messages are only system messages: add a user message.")
        turns = known.turns if known else ()
        if turns and rest[0].role == "tool":
            turns, rest = turns[:-1], (*turns[-1].messages, *rest)
        plan = Plan(target, None if fork else known, system, turns, rest, accepts)
        self._check_size(plan, max_images)
        while excess := self._excess(plan, max_images):
            plan = plan.without_turn(_oldest_with(excess, plan))
        while plan.n_messages > self._settings.max_session_messages:
            plan = plan.without_turn(0)
        return plan

    def models(self) -> dict[str, str]:
        """The model of the last reply of each session, by its id, where that is known."""
        with self._lock:
            return self._backend.models()

    def commit(self, plan: Plan, reply: Message) -> SessionInfo:
        """Stores a planned turn with its reply; a new session may evict the one created first."""
        turns = (*plan.turns, *_turns((*plan.new, reply)))
        with self._lock:
            now = self._clock()
            session = Session(plan.session_id, plan.base.created if plan.base else now, now, plan.system, turns)
            self._backend.save(session, plan.base)
        return SessionInfo(session.n_messages, plan.dropped_messages)

    def _id_of_copy(self, session_id: str, wanted: str | None) -> str:
        if wanted is None:
            suffix = f"-fork-{secrets.token_hex(FORK_BYTES)}"
            return session_id[: MAX_ID_CHARACTERS - len(suffix)] + suffix
        check_id(wanted)
        if self._backend.find(wanted) is not None:
            raise SessionError(f"There is already a session {wanted!r}. Choose another id for the copy, or none.")
        return wanted

    def _check_size(self, plan: Plan, max_images: int) -> None:
        alone = (*plan.system, *plan.new)
        max_messages, max_bytes = self._settings.max_session_messages, self._settings.max_session_bytes
        if len(alone) + 1 > max_messages:
            raise SessionError(
                f"The call has {len(alone)} messages (including the system message and the turn that tool results "
                f"continue); a session has at most {max_messages}, including the reply. Send fewer, or raise "
                "VLLM_MAX_SESSION_MESSAGES."
            )
        media = media_of(alone)
        if count := too_many((part for part in media if part.kind in plan.accepts), max_images):
            raise SessionError(
                f"The call has {count}; the maximum in a prompt is {max_images}. Send fewer, or "
                "raise VLLM_MAX_IMAGES_PER_PROMPT."
            )
        if (n_bytes := media_bytes(media)) > max_bytes:
            what = " and ".join(noun for kind, noun in NOUNS.items() if any(part.kind == kind for part in media))
            raise SessionError(
                f"The call's {what} have {n_bytes} bytes when decoded; the maximum in a session is {max_bytes}. "
                f"Send smaller {what}."
            )

    def _excess(self, plan: Plan, max_images: int) -> frozenset[str]:
        """The kinds of media of which a turn has to be dropped; empty if everything fits."""
        media = plan.media
        kinds = frozenset(kind for kind in plan.accepts if sum(part.kind == kind for part in media) > max_images)
        if not kinds and media_bytes(media) > self._settings.max_session_bytes:
            return frozenset(NOUNS)
        return kinds


def check_id(session_id: str) -> None:
    """Raises `SessionError` for an id that is empty, longer than 256 characters, or not printable."""
    if not _is_id(session_id):
        raise SessionError(f"A session_id must have 1 to {MAX_ID_CHARACTERS} printable characters.")


def _is_id(session_id: str) -> bool:
    return 1 <= len(session_id) <= MAX_ID_CHARACTERS and session_id.isprintable()


def _sharing(message: Message, shared: dict[str, Media]) -> Message:
    """The message with media that the session already has replaced by those; adds new ones to `shared`."""
    if not message.media:
        return message
    content: tuple[Part, ...] = tuple(
        part if isinstance(part, TextPart) else shared.setdefault(part.digest, part) for part in message.content
    )
    return dataclasses.replace(message, content=content)


def _turns(messages: Sequence[Message]) -> Iterator[Turn]:
    """Splits messages into turns: a user message after one of another role begins a new turn."""
    begin = 0
    for number in range(1, len(messages)):
        if messages[number].role == "user" != messages[number - 1].role:
            yield Turn(tuple(messages[begin:number]))
            begin = number
    yield Turn(tuple(messages[begin:]))


def _oldest_with(kinds: frozenset[str], plan: Plan) -> int:
    return next(number for number, turn in enumerate(plan.turns) if any(part.kind in kinds for part in turn.media))
