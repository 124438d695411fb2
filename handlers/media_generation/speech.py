"""Speech from text: `generate_speech`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from handlers.image_reading import OrderedPool, call_limits
from handlers.media_generation.images import Filename, Seed
from handlers.media_generation.jobs import Wait, outcome, report
from mcp_protocol.tools.toolbox import ArgumentError
from media.errors import MediaError
from omni.speech.parameters import Format, SpeechOptions
from settings import missing_media

if TYPE_CHECKING:
    from handlers.services import Services
    from mcp_protocol.calls.call import Call
    from mcp_protocol.jsonrpc import Json

MAX_TEXT = 5_000
"""Characters: five minutes. Models read longer texts badly, and most servers refuse them."""
REFERENCE_RATE = 24_000
"""Hz; the rate of the models that clone voices."""
NOT_IN_TIME = "The call's time was up before it was read."

SpokenText = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]
Voice = Annotated[
    str, Meta(min_length=1, max_length=200, description="As list_available_models names it; default: the model's.")
]


class SpeechArguments(msgspec.Struct, forbid_unknown_fields=True, kw_only=True, frozen=True):
    """Arguments of `generate_speech`."""

    text: Annotated[SpokenText, Meta(description="What is said.")]
    voice: Voice | None = None
    language: Annotated[str, Meta(min_length=1, max_length=50, description="E.g. English; default: found.")] | None = (
        None
    )
    instructions: (
        Annotated[str, Meta(min_length=1, max_length=2_000, description="How it is said, if the model can.")] | None
    ) = None
    reference_audio: (
        Annotated[
            str,
            Meta(min_length=1, description="Absolute path or URL of a recording whose voice is cloned, if permitted."),
        ]
        | None
    ) = None
    reference_text: (
        Annotated[str, Meta(min_length=1, max_length=2_000, description="What is said in reference_audio.")] | None
    ) = None
    speed: Annotated[float, Meta(ge=0.25, le=4, description="1 is the voice's own pace.")] = 1.0
    format: Annotated[Format, Meta(description="Of the file.")] = "wav"
    seed: Annotated[Seed | None, Meta(description="The same seed gives the same speech; default: random.")] = None
    filename: Filename | None = None
    wait_s: Wait | None = None

    def options(self) -> SpeechOptions:
        """The options as omni takes them: the arguments of the same names."""
        return msgspec.convert(self, SpeechOptions, from_attributes=True)


def generate_speech(arguments: SpeechArguments, call: Call, services: Services) -> list[Json]:
    """Speaks a text, as a job with one item."""
    require_media()
    maker = services.speech_maker
    has_reference = arguments.reference_audio is not None
    planning = maker.plan(arguments.text, arguments.options(), has_reference=has_reference)
    plan = services.jobs.ask(planning, call.cancellation)
    reference_wav = _reference(arguments.reference_audio, call, services)
    job = maker.start(plan, reference_wav, filename=arguments.filename)
    return outcome(job, call, services, arguments.wait_s, partial(report, job, call, services, "none"))


def require_media(noun: str = "speech") -> None:
    """Raises `ArgumentError` where the packages that check what was made are missing: before anything is made."""
    from importlib.util import find_spec

    if find_spec("av") is None or find_spec("numpy") is None:
        raise ArgumentError(missing_media(noun))


def _reference(reference: str | None, call: Call, services: Services) -> bytes | None:
    """The recording of a voice as a WAV file; raises `ArgumentError` if it cannot be read."""
    if reference is None:
        return None

    def read(index: int) -> Any:
        try:
            return services.audio.read(reference, call_limits(call), sample_rate=REFERENCE_RATE).wav
        except MediaError as error:
            return str(error)

    with OrderedPool(read, 1, call, NOT_IN_TIME, downloads=True) as results:
        (result,) = results
    if isinstance(result, str):
        raise ArgumentError(f"arguments.reference_audio: {result}")
    wav: bytes = result
    return wav
