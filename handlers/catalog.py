"""The table of all tools. A tool is one row here; nothing else lists them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from handlers import chat, sessions
from handlers.errors import explain
from mcp_protocol.tools import Tool, Toolbox

if TYPE_CHECKING:
    from handlers.services import Services

TOOLS = (
    Tool(
        name="chat_completion",
        family="chat",
        title="Chat with the local model",
        description=(
            "Answers a conversation of text and pictures with the vision-language model that runs on this machine. "
            "Use it to describe or compare pictures, read what is on them, or ask anything of a local model. A "
            "message's content is text or a list of parts: text, image_url (http(s), data: or file: URL) or image "
            "(absolute path, or base64 data with mimeType). With a session_id the server remembers the conversation, "
            "pictures included: send only the new messages next time; fork_session goes on in a copy of it. With "
            "response_format the answer is JSON that fits a schema. Returns the answer as text; finish_reason 'length' "
            "means that max_tokens cut it off, 'timeout' that its time was up. With tools the model may ask you to "
            "call functions (finish_reason 'tool_calls'; without any text the calls are the text, as JSON): run them "
            "and send each result as a message of the role tool."
        ),
        arguments=chat.ChatArguments,
        handler=chat.chat_completion,
        result=chat.ChatResult,
        text=chat.text_of,
        read_only=False,
        open_world=True,
    ),
    Tool(
        name="chat_completion_batch",
        family="chat",
        title="Answer many conversations at once",
        description=(
            "Answers up to 256 separate conversations in one batch of the engine, much faster than one call each: "
            "for example the same question about many pictures. The sampling arguments and the tools hold for all. "
            "Returns one entry per conversation in the order given, with an error for each that could not be answered."
        ),
        arguments=chat.BatchArguments,
        handler=chat.chat_completion_batch,
        result=chat.BatchResult,
        open_world=True,
    ),
    Tool(
        name="model_info",
        family="chat",
        title="About the model",
        description=(
            "Tells which model the server runs, whether it is loaded, its context length, whether it reads pictures, "
            "the sampling defaults and how many sessions there are. Loads nothing; what is not known yet is null."
        ),
        arguments=chat.NoArguments,
        handler=chat.model_info,
        result=chat.ModelInfo,
        idempotent=True,
    ),
    Tool(
        name="list_sessions",
        family="chat",
        title="List sessions",
        description=(
            "Lists the conversations the server remembers, with their number of messages and pictures, a page at a "
            "time: next_offset is the next page's offset."
        ),
        arguments=sessions.ListSessionsArguments,
        handler=sessions.list_sessions,
        result=sessions.SessionList,
        idempotent=True,
    ),
    Tool(
        name="get_session",
        family="chat",
        title="Show a session",
        description=(
            "Shows the messages of one remembered conversation, a page at a time: next_offset is the next page's "
            "offset."
        ),
        arguments=sessions.GetSessionArguments,
        handler=sessions.get_session,
        result=sessions.SessionContent,
        idempotent=True,
    ),
    Tool(
        name="delete_session",
        family="chat",
        title="Delete a session",
        description="Makes the server forget one conversation with its pictures. This cannot be undone.",
        arguments=sessions.SessionArguments,
        handler=sessions.delete_session,
        result=sessions.SessionDeleted,
        read_only=False,
        destructive=True,
        idempotent=True,
    ),
)


def toolbox(services: Services) -> Toolbox:
    """The tools of the families that the settings pick, over these services."""
    picked = services.settings.server.toolsets
    return Toolbox((tool for tool in TOOLS if not picked or tool.family in picked), services, explain)
