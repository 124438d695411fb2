"""The audio family of tools."""

from __future__ import annotations

from handlers.audio import transcribe_audio
from handlers.media_generation import speech
from handlers.resources.media_view import MEDIA_VIEW
from mcp_protocol.tools.toolbox import Annotations, Tool

TOOLS = (
    Tool(
        name="transcribe_audio",
        title="Transcribe speech",
        description=(
            "Writes down what is said in an audio file or a video, in any of a hundred languages and at any length, or "
            "translates it into English. Returns the text, its segments with times, and the language; with format srt "
            "or vtt also subtitles. Silence gives an empty text. If it takes longer than wait_s or the time limit, "
            "status is 'running': then use job_status."
        ),
        arguments=transcribe_audio.TranscribeArguments,
        handler=transcribe_audio.transcribe_audio,
        result=transcribe_audio.TranscriptResult,
        text=transcribe_audio.text_of,
        annotations=Annotations(idempotent=True, open_world=True),
        task_support="optional",
    ),
    Tool(
        name="generate_speech",
        title="Speak a text",
        description=(
            "Speaks a text with the speech model of a vLLM-Omni server, with one of its voices or one cloned from a "
            "recording, and saves it as an audio file that was checked to its end. Leave out what the user does not "
            "ask for. Returns the file's path, duration and seed; or status 'running' with a job_id: then use "
            "job_status."
        ),
        arguments=speech.SpeechArguments,
        handler=speech.generate_speech,
        annotations=Annotations(read_only=False, open_world=True),
        view=MEDIA_VIEW,
        task_support="optional",
    ),
)
