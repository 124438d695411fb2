"""Generation of speech from text: made by a server, checked and saved."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Protocol

import msgspec

from http_client.addresses import root_of
from media.decoding.containers import format_of
from media.errors import MediaError
from omni.client import UNKNOWN, UNREPORTED_MODEL
from omni.errors import InvalidResponse, OmniError, ServerFailed, ServerOutOfMemory, ServerRefused, ServerUnreachable
from omni.files.audio_marks import with_audio_text
from omni.files.output_folder import automatic_name, checked_name
from omni.jobs.jobs import run_shielded
from omni.speech.client import SpeechClient
from omni.speech.models import SpeechModel, advice, speaks
from omni.speech.parameters import SpeechOptions, SpeechParameters, longest_s, resolve_speech, shortest_s

LOOK_TIMEOUT_S = 3.0
"""How long a list waits for the model, and for the voices."""

if TYPE_CHECKING:
    from http_client.outgoing import Outgoing
    from media.decoder import Decoder
    from media.decoding.audio import AudioFacts
    from omni.files.output_folder import OutputFolder
    from omni.jobs.job import Item, Job
    from omni.jobs.jobs import Jobs
    from omni.turns import Turns
    from settings import OmniSettings


class OtherModel(ServerRefused):
    """The server's model does not speak."""

    def __init__(self, url: str, model: str) -> None:
        super().__init__(f"The vLLM-Omni server at {url} serves {model}, which does not speak. {advice()}")
        self.model = model


class SpeechPlan(msgspec.Struct, frozen=True):
    """Everything that is decided before a speech is made. The job keeps it, so it holds no media."""

    model: SpeechModel
    parameters: SpeechParameters
    notes: list[str]


class MadeSpeech(msgspec.Struct, frozen=True):
    """A speech that was generated, checked and saved."""

    file_path: str
    n_bytes: int
    generation_time_s: float
    parameters: SpeechParameters
    facts: AudioFacts


class SpeechServerState(msgspec.Struct, frozen=True):
    """The server in a list; `None` stands for what it did not report, and for a model that is not known to speak."""

    url: str
    model: str | None
    voices: list[str] | None
    uploaded_voices: list[str] | None
    note: str
    speaks: bool | None = None


class SpeechStep(Protocol):
    """A job, as far as one of its steps may change it."""

    phase: str | None


class SpeechMaker:
    """Makes speech with a vLLM-Omni server. Its coroutines run on the event loop of `jobs`; any thread may call the
    other methods.

    Arguments:
        client: the server.
        folder: where the files are saved.
        jobs: runs the generations.
        decoder: checks the files in a child process.
    """

    def __init__(self, client: SpeechClient, folder: OutputFolder, jobs: Jobs, decoder: Decoder) -> None:
        self.client = client
        self._folder = folder
        self._jobs = jobs
        self._decoder = decoder
        jobs.at_end(client.close)

    async def model(self) -> SpeechModel:
        """The server's model.

        Raises: `OtherModel` where it makes something else; `ServerUnreachable`.
        """
        try:
            served = await self.client.served_model()
        except UNREPORTED_MODEL as error:
            return SpeechModel(UNKNOWN, None, f"The server does not report its model. {error}")
        found = speaks(served)
        if found is False:
            raise OtherModel(self.client.url, served.shown)
        warning = None if found else f"The model '{served.shown}' is unknown; it may not speak."
        return SpeechModel(served.shown, served.id, warning)

    async def state(self) -> SpeechServerState:
        """Asks the server for its model and, unless this makes something else, for its voices."""
        url = self.client.url
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                model = await self.model()
                if model.served_as is None:
                    return SpeechServerState(url, None, None, None, model.warning or "")
        except ServerUnreachable as error:
            note = error.why or f"There is no server at this address. {advice()}"
            return SpeechServerState(url, None, None, None, note)
        except OtherModel as error:
            return SpeechServerState(url, error.model, None, None, str(error), False)
        except (OmniError, TimeoutError) as error:
            return SpeechServerState(url, None, None, None, str(error) or "It does not respond in time.")
        note = model.warning or "Speaks a text: generate_speech."
        known = True if model.known else None
        try:
            async with asyncio.timeout(LOOK_TIMEOUT_S):
                found = await self.client.voices()
        except (OmniError, TimeoutError) as error:
            text = f"{note} It does not report its voices. {error}"
            return SpeechServerState(url, model.name, None, None, text, known)
        return SpeechServerState(url, model.name, found.voices, found.uploaded, note, known)

    async def plan(self, text: str, options: SpeechOptions, *, has_reference: bool) -> SpeechPlan:
        """Decides everything about a speech, without making it.

        Raises: `InvalidParameters`, `OutputFailed`, `ServerRefused`, and the client's errors.
        """
        model = await self.model()
        self._folder.check()
        parameters = resolve_speech(model.name, text, options, has_reference=has_reference)
        return SpeechPlan(model, parameters, [model.warning] if model.warning else [])

    def start(
        self, plan: SpeechPlan, reference_wav: bytes | None, *, filename: str | None
    ) -> Job[SpeechPlan, MadeSpeech]:
        """Starts a job that makes the speech of a plan; `reference_wav` is a recording of the voice.

        Raises: `InvalidParameters` for the file's name, `TooManyJobs`.
        """
        name = None if filename is None else checked_name(filename, plan.parameters.extension)

        async def work(job: Job[SpeechPlan, MadeSpeech], item: Item[MadeSpeech]) -> MadeSpeech:
            return await self.make(job, plan, reference_wav, name)

        return self._jobs.start("speech", [plan.parameters.text], work, server=root_of(self.client.url), plan=plan)

    async def make(
        self, job: SpeechStep, plan: SpeechPlan, reference_wav: bytes | None, name: str | None
    ) -> MadeSpeech:
        """Makes the speech of a plan in a job that runs; cancelling ends the request on the server."""
        begun_s = time.monotonic()
        job.phase = "making the voice"
        served_as = plan.model.served_as
        fields = {**({"model": served_as} if served_as else {}), **plan.parameters.request(reference_wav)}
        try:
            data = await self.client.say(fields, longest_s(plan.parameters))
        except (ServerRefused, ServerFailed) as error:
            raise _explained(error, plan.model) from None
        seconds = round(time.monotonic() - begun_s, 3)
        job.phase = "checking the voice"
        return await run_shielded(lambda: self._save(data, plan.parameters, name, seconds))

    def _save(self, data: bytes, parameters: SpeechParameters, name: str | None, seconds: float) -> MadeSpeech:
        facts = checked(data, parameters, self._decoder)
        file = with_audio_text(data, msgspec.json.encode(parameters).decode())
        path = self._folder.save(file, name or automatic_name("speech", parameters.text, parameters.extension))
        return MadeSpeech(path, len(file), seconds, parameters, facts)


def speech_maker(
    settings: OmniSettings,
    outgoing: Outgoing,
    folder: OutputFolder,
    jobs: Jobs,
    decoder: Decoder,
    turns: Turns | None = None,
) -> SpeechMaker:
    """The maker of speech by the settings."""
    url = settings.speech_url or settings.url
    return SpeechMaker(SpeechClient(url, settings.timeout_s, settings.api_key, outgoing, turns), folder, jobs, decoder)


def checked(data: bytes, parameters: SpeechParameters, decoder: Decoder) -> AudioFacts:
    """What decoding a speech to its end shows; raises `InvalidResponse` for one that the text cannot be."""
    if not data:
        raise InvalidResponse("The vLLM server's speech is empty.")
    found = format_of(data)
    if found != parameters.format:
        raise InvalidResponse(
            f"The vLLM server answered with {found or 'something that is not audio'} instead of {parameters.format}; "
            "it was not kept." + (f" Ask for the format {found}." if found in ("wav", "mp3", "flac") else "")
        )
    longest = longest_s(parameters)
    try:
        facts = decoder.check_audio(data, longest)
    except MediaError as error:
        raise InvalidResponse(f"The vLLM server's speech was not kept. {error}") from None
    shortest = shortest_s(parameters)
    if facts.heard_s == 0:
        raise InvalidResponse(f"The vLLM server's speech is silent for all of its {facts.duration_s:.2f} s; not kept.")
    if facts.heard_s < shortest:
        raise InvalidResponse(
            f"The vLLM server's speech was not kept: {facts.heard_s:.2f} s can be heard of its {facts.duration_s:.2f} "
            f"s, and this text takes {shortest:.2f} s at least. Try another seed or a shorter text."
        )
    return facts


def _explained(error: OmniError, model: SpeechModel) -> OmniError:
    if isinstance(error, ServerOutOfMemory):
        return ServerFailed("The vLLM server is out of memory. Try a shorter text, or stop what else runs on its GPU.")
    if model.known or type(error) not in (ServerRefused, ServerFailed):
        return error
    return type(error)(f"{error} {advice()}")
