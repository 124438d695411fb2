"""What a session remembers, what it drops, and when the store changes."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine.errors import SessionError, UnknownSession
from engine.interface import ImagePart, Message, TextPart, ToolCall
from engine.sessions.left_out import NOTES
from engine.sessions.store import MAX_ID_CHARACTERS, SessionStore
from settings import SessionSettings
from tests.unit.engine.session_samples import MAX_IMAGES, make_image, message, say, stored, texts


@pytest.fixture
def store() -> SessionStore:
    return SessionStore(SessionSettings(max_sessions=3, max_session_messages=6, max_session_bytes=1 << 20))


def test_a_new_session_sends_only_the_new_messages(store: SessionStore) -> None:
    plan = store.plan("s", [message("user", "hi")], MAX_IMAGES)
    assert texts(plan.messages) == ["hi"]
    assert plan.dropped_messages == 0


def test_a_plan_changes_nothing(store: SessionStore) -> None:
    say(store, "s", "one")
    before = store.get("s")
    store.plan("s", [message("system", "new"), message("user", "two")], MAX_IMAGES)
    store.plan("other", [message("user", "two")], MAX_IMAGES)
    assert store.get("s") is before
    assert len(store) == 1


def test_history_precedes_the_new_messages(store: SessionStore) -> None:
    say(store, "s", "one")
    plan = store.plan("s", [message("user", "two")], MAX_IMAGES)
    assert texts(plan.messages) == ["one", "ok", "two"]


@pytest.mark.parametrize("again", ["be brief", "be long"])
def test_a_system_message_replaces_the_former_and_goes_first(store: SessionStore, again: str) -> None:
    plan = store.plan("s", [message("system", "be brief"), message("user", "one")], MAX_IMAGES)
    store.commit(plan, message("assistant", "ok"))
    plan = store.plan("s", [message("user", "two"), message("system", again)], MAX_IMAGES)
    assert texts(plan.messages) == [again, "one", "ok", "two"]


def test_the_system_message_stays_without_being_sent_again(store: SessionStore) -> None:
    store.commit(store.plan("s", [message("system", "be brief"), message("user", "one")], 4), message("assistant", "k"))
    assert store.plan("s", [message("user", "two")], MAX_IMAGES).messages[0].text == "be brief"


def test_whole_oldest_turns_drop_when_there_are_too_many_messages(store: SessionStore) -> None:
    assert [say(store, "s", str(number)) for number in range(5)] == [0, 0, 0, 2, 2]
    assert texts(store.get("s").messages) == ["2", "ok", "3", "ok", "4", "ok"]


def test_the_system_message_counts_and_never_drops(store: SessionStore) -> None:
    store.commit(store.plan("s", [message("system", "S"), message("user", "0")], 4), message("assistant", "ok"))
    for number in range(1, 5):
        say(store, "s", str(number))
    assert texts(store.get("s").messages) == ["S", "3", "ok", "4", "ok"]


def test_only_turns_with_images_drop_for_too_many_images(store: SessionStore) -> None:
    say(store, "s", "text")
    say(store, "s", "old", make_image(1))
    plan = store.plan("s", [message("user", "new", make_image(2), make_image(3))], 2)
    assert texts(plan.messages) == ["text", "ok", "new"]
    assert plan.dropped_messages == 2


def test_no_more_turns_drop_than_needed(store: SessionStore) -> None:
    say(store, "s", "a", make_image(1))
    say(store, "s", "b", make_image(2))
    plan = store.plan("s", [message("user", "c", make_image(3))], 2)
    assert texts(plan.messages) == ["b", "ok", "c"]


def test_turns_drop_when_images_take_too_many_bytes(store: SessionStore) -> None:
    say(store, "s", "a", make_image(1, side=500))
    assert say(store, "s", "b", make_image(2, side=500)) == 2
    assert texts(store.get("s").messages) == ["b", "ok"]


def test_an_image_that_appears_twice_is_held_once(store: SessionStore) -> None:
    say(store, "s", "a", make_image(1, side=500))
    assert say(store, "s", "b", make_image(1, side=500)) == 0
    first, second = (part for message in store.get("s").messages for part in message.images)
    assert first is second


@pytest.mark.parametrize(
    ("new", "setting"),
    [
        ([message("user", str(number)) for number in range(6)], "VLLM_MAX_SESSION_MESSAGES"),
        ([message("user", *(make_image(number) for number in range(5)))], "VLLM_MAX_IMAGES_PER_PROMPT"),
        ([message("user", make_image(1, side=700))], "maximum in a session is .* Send smaller images"),
    ],
)
def test_new_messages_that_are_too_much_alone_name_the_limit(
    store: SessionStore, new: list[Message], setting: str
) -> None:
    with pytest.raises(SessionError, match=setting):
        store.plan("s", new, MAX_IMAGES)


def test_new_messages_without_anything_to_answer_are_refused(store: SessionStore) -> None:
    with pytest.raises(SessionError, match="user message"):
        store.plan("s", [message("system", "be brief")], MAX_IMAGES)


def test_the_oldest_turn_can_be_dropped_until_none_is_left() -> None:
    store = SessionStore(SessionSettings())
    say(store, "s", "one")
    say(store, "s", "two")
    plan = store.plan("s", [message("system", "S"), message("user", "three")], MAX_IMAGES)
    shorter = plan.without_oldest_turn()
    assert shorter is not None
    assert texts(shorter.messages) == ["S", "two", "ok", "three"]
    shortest = shorter.without_oldest_turn()
    assert shortest is not None
    assert texts(shortest.messages) == ["S", "three"]
    assert shortest.without_oldest_turn() is None
    assert shortest.dropped_messages == 4


def test_several_turns_sent_at_once_drop_one_by_one(store: SessionStore) -> None:
    sent = [message("user", "1"), message("assistant", "a"), message("user", "2")]
    store.commit(store.plan("s", sent, MAX_IMAGES), message("assistant", "b"))
    assert [texts(turn.messages) for turn in store.get("s").turns] == [["1", "a"], ["2", "b"]]


CALLS = Message("assistant", (), (ToolCall("a", "f", "{}"), ToolCall("b", "f", "{}")))


def call_tools(store: SessionStore, session_id: str, text: str) -> None:
    store.commit(store.plan(session_id, [message("user", text)], MAX_IMAGES), CALLS)


def results(*contents: str | ImagePart) -> list[Message]:
    return [
        Message("tool", (TextPart(content) if isinstance(content, str) else content,), tool_call_id=call.id)
        for call, content in zip(CALLS.tool_calls, contents, strict=True)
    ]


def test_results_of_tools_continue_the_turn_of_their_calls() -> None:
    store = SessionStore(SessionSettings())
    say(store, "s", "hi")
    call_tools(store, "s", "ask")
    plan = store.plan("s", results("1", "2"), MAX_IMAGES)
    assert texts(plan.new) == ["ask", "", "1", "2"]
    assert plan.new[1] == CALLS
    store.commit(plan, message("assistant", "done"))
    turns = store.get("s").turns
    assert [texts(turn.messages) for turn in turns] == [["hi", "ok"], ["ask", "", "1", "2", "done"]]


def test_a_call_never_drops_without_its_results(store: SessionStore) -> None:
    say(store, "s", "hi")
    call_tools(store, "s", "ask")
    plan = store.plan("s", results("1", "2"), MAX_IMAGES)
    assert (texts(plan.messages), plan.dropped_messages) == (["ask", "", "1", "2"], 2)
    assert plan.without_oldest_turn() is None
    store.commit(plan, message("assistant", "done"))
    assert say(store, "s", "next") == 5
    assert texts(store.get("s").messages) == ["next", "ok"]


def test_calls_after_calls_stay_one_turn(store: SessionStore) -> None:
    call_tools(store, "s", "ask")
    store.commit(store.plan("s", results("1", "2"), MAX_IMAGES), CALLS)
    (turn,) = store.get("s").turns
    assert [part.role for part in turn.messages] == ["user", "assistant", "tool", "tool", "assistant"]
    with pytest.raises(SessionError, match="VLLM_MAX_SESSION_MESSAGES"):
        store.plan("s", results("3", "4"), MAX_IMAGES)


def test_images_of_a_turn_that_goes_on_are_not_dropped(store: SessionStore) -> None:
    say(store, "s", "old", make_image(1))
    store.commit(store.plan("s", [message("user", "ask", make_image(2))], MAX_IMAGES), CALLS)
    plan = store.plan("s", results("1", make_image(3)), 2)
    assert (texts(plan.messages), plan.dropped_messages) == (["ask", "", "1", ""], 2)


def test_the_session_created_first_is_pushed_out() -> None:
    ticks = itertools.count(1.0)
    store = SessionStore(SessionSettings(max_sessions=2), clock=lambda: next(ticks))
    for session_id in ("a", "b", "a", "c"):
        say(store, session_id, "hi")
    assert [(session.id, session.created, session.updated) for session in store.list()] == [
        ("b", 2.0, 2.0),
        ("c", 4.0, 4.0),
    ]


def test_a_single_slot_keeps_the_session_being_stored() -> None:
    store = SessionStore(SessionSettings(max_sessions=1))
    say(store, "a", "hi")
    say(store, "b", "hi")
    assert [session.id for session in store.list()] == ["b"]


def test_a_deleted_session_is_unknown(store: SessionStore) -> None:
    say(store, "s", "hi")
    assert store.delete("s")
    assert not store.delete("s")
    with pytest.raises(UnknownSession, match="'s'"):
        store.get("s")


@pytest.mark.parametrize("session_id", ["", "x" * 257, "a\nb", "\x00", "\ud800"])
def test_a_session_id_must_be_short_and_printable(store: SessionStore, session_id: str) -> None:
    with pytest.raises(SessionError, match="printable"):
        store.plan(session_id, [message("user", "hi")], MAX_IMAGES)


@pytest.mark.parametrize("session_id", ["x", "x" * 256, "Größe 日本", "../etc"])
def test_any_printable_session_id_is_taken(store: SessionStore, session_id: str) -> None:
    say(store, session_id, "hi")
    assert store.get(session_id).id == session_id


def test_a_fork_goes_on_as_a_copy_and_its_source_stays(store: SessionStore) -> None:
    store.commit(store.plan("s", [message("system", "S"), message("user", "one")], 4), message("assistant", "ok"))
    before = store.get("s")
    plan = store.plan("s", [message("user", "two")], MAX_IMAGES, fork=True)
    assert texts(plan.messages) == ["S", "one", "ok", "two"]
    store.commit(plan, message("assistant", "forked"))
    assert store.get("s") is before
    assert texts(store.get(plan.session_id).messages) == ["S", "one", "ok", "two", "forked"]


def test_a_fork_shares_its_images(store: SessionStore) -> None:
    say(store, "s", "look", make_image(1))
    plan = store.plan("s", [message("user", "again", make_image(1))], MAX_IMAGES, fork=True, fork_id="copy")
    store.commit(plan, message("assistant", "ok"))
    (original,) = store.get("s").images
    assert all(image is original for image in store.get("copy").images)


def test_a_fork_without_a_name_gets_one_that_cannot_be_guessed(store: SessionStore) -> None:
    for session_id in ("s", "x" * MAX_ID_CHARACTERS):
        say(store, session_id, "hi")
        names = {store.plan(session_id, [message("user", "two")], 4, fork=True).session_id for _ in range(50)}
        assert len(names) == 50
        for name in names:
            source, _, suffix = name.rpartition("-fork-")
            assert session_id.startswith(source)
            assert len(suffix) == 16
            assert len(name) <= MAX_ID_CHARACTERS


def test_a_planned_fork_creates_nothing(store: SessionStore) -> None:
    say(store, "s", "hi")
    store.plan("s", [message("user", "two")], MAX_IMAGES, fork=True, fork_id="copy")
    assert [row.id for row in store.list()] == ["s"]


def test_an_unknown_session_cannot_be_forked(store: SessionStore) -> None:
    with pytest.raises(UnknownSession, match="'s'"):
        store.plan("s", [message("user", "two")], MAX_IMAGES, fork=True)


@pytest.mark.parametrize(("fork_id", "words"), [("s", "already"), ("other", "already"), ("a\nb", "printable")])
def test_a_fork_needs_a_name_of_its_own(store: SessionStore, fork_id: str, words: str) -> None:
    for session_id in ("s", "other"):
        say(store, session_id, "hi")
    with pytest.raises(SessionError, match=words):
        store.plan("s", [message("user", "two")], MAX_IMAGES, fork=True, fork_id=fork_id)


@pytest.mark.parametrize("in_file", [False, True])
def test_many_threads_may_use_one_store(tmp_path: Path, in_file: bool) -> None:
    sessions = stored(str(tmp_path / "sessions.db")) if in_file else SessionStore(SessionSettings())

    def converse(name: str) -> None:
        for number in range(10):
            say(sessions, name, str(number), make_image(number))
            assert name in [row.id for row in sessions.list()]
            assert sessions.get(name).n_messages == 2 * number + 2 - (2 * max(0, number - 3))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(converse, "abcdefgh"))
    assert sorted(row.id for row in sessions.list()) == list("abcdefgh")


def test_media_that_are_not_accepted_are_kept_but_not_sent() -> None:
    store = SessionStore(SessionSettings())
    say(store, "s", "look", make_image(1))
    plan = store.plan("s", [message("user", "and?")], MAX_IMAGES, accepts=("audio", "video"))
    assert texts(plan.messages)[0] == f"look\n{NOTES['image']}"
    assert not any(each.media for each in plan.messages)
    store.commit(plan, message("assistant", "ok"))
    assert len(store.get("s").media) == 1


def test_images_that_are_not_sent_do_not_count_for_the_prompt() -> None:
    store = SessionStore(SessionSettings())
    for shade in range(3):
        say(store, "s", "look", make_image(shade))
    assert store.plan("s", [message("user", "and?")], 1, accepts=()).dropped_messages == 0
    assert store.plan("s", [message("user", "and?")], 1).dropped_messages == 4
