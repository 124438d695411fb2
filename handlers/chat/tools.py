"""The chat family of tools."""

from __future__ import annotations

from handlers.chat import chat, sessions
from handlers.model import model
from mcp_protocol.tools.toolbox import Annotations, Tool

SESSION_ARGUMENTS = ("session_id", "fork_session_id")
"""Arguments that name a session; calls that name the same session run one after another."""

TOOLS = (
    Tool(
        name="chat_completion",
        title="Chat with the local model",
        description=(
            "Sends a conversation of text, images and, if the model takes them, audio and videos to the model on this "
            "machine and returns its reply: to describe or compare images, read text in them, or ask anything. With "
            "session_id the conversation is stored with its media: send only the new messages next time. "
            "finish_reason 'length' means that max_tokens was reached, 'timeout' that the time limit was."
        ),
        arguments=chat.ChatArguments,
        handler=chat.chat_completion,
        result=chat.ChatResult,
        text=chat.text_of,
        annotations=Annotations(read_only=False, open_world=True),
        serial_by=SESSION_ARGUMENTS,
    ),
    Tool(
        name="chat_completion_batch",
        title="Answer many conversations at once",
        description=(
            "Answers up to 256 independent conversations in one engine batch, much faster than one call each: for "
            "example the same question about many images. The other arguments apply to all. Returns "
            "one entry per conversation in the given order, with an error for each that failed."
        ),
        arguments=chat.BatchArguments,
        handler=chat.chat_completion_batch,
        result=chat.BatchResult,
        annotations=Annotations(open_world=True),
    ),
    Tool(
        name="model_info",
        title="About the model",
        description=(
            "Returns which model the server runs, whether it is loaded, its context length, whether it accepts images, "
            "the sampling defaults and the number of sessions; of several models, the names and states. Loads nothing; "
            "values not known before a load are null."
        ),
        arguments=model.ModelArguments,
        handler=model.model_info,
        result=model.ModelInfo,
        annotations=Annotations(idempotent=True),
        bypass_queue=True,
    ),
    Tool(
        name="list_sessions",
        title="List sessions",
        description=(
            "Lists the stored chat sessions with their number of messages and images, one page at a time: next_offset "
            "is the offset of the next page."
        ),
        arguments=sessions.ListSessionsArguments,
        handler=sessions.list_sessions,
        result=sessions.SessionList,
        annotations=Annotations(idempotent=True),
        bypass_queue=True,
    ),
    Tool(
        name="get_session",
        title="Show a session",
        description=(
            "Returns the messages of one chat session, one page at a time: next_offset is the offset of the next page."
        ),
        arguments=sessions.GetSessionArguments,
        handler=sessions.get_session,
        result=sessions.SessionContent,
        annotations=Annotations(idempotent=True),
        bypass_queue=True,
        serial_by=SESSION_ARGUMENTS,
    ),
    Tool(
        name="delete_session",
        title="Delete a session",
        description="Deletes one chat session with its messages and images. This cannot be undone.",
        arguments=sessions.SessionArguments,
        handler=sessions.delete_session,
        result=sessions.SessionDeleted,
        annotations=Annotations(read_only=False, destructive=True, idempotent=True),
        bypass_queue=True,
        serial_by=SESSION_ARGUMENTS,
    ),
)
