"""From a caller's wishes to files: which model is there, what it needs, and jobs that make its pictures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from omni import png
from omni.aside import kept
from omni.client import OmniClient, Picture
from omni.errors import (
    ConnectionLost,
    InvalidParameters,
    ModelChanged,
    OutputFailed,
    ServerFailed,
    ServerRefused,
    ServerTooSlow,
    UnusableAnswer,
)
from omni.files import OutputFolder, automatic_name, checked_name
from omni.job import Item, Job
from omni.jobs import Jobs
from omni.model_list import ServedModel
from omni.parameters import ImageParameters, Wishes, resolve
from omni.pictures import PREVIEW_SIDE, SHEET_PREVIEW_SIDE, Preview, checked, small_preview
from omni.profiles import FALLBACK, Profile, ProfileBook
from omni.speed import SpeedBook

if TYPE_CHECKING:
    from media.decoder import Decoder

MODEL_KNOWN_S = 30.0
"""For how long the server is not asked again which model it serves; a wrong guess is refused by it and mended."""
UNKNOWN = "unknown"
"""The name of a model that its server does not tell."""


class KnownModel(msgspec.Struct, frozen=True):
    """The model on the server, and what is known of it.

    `served_as` is the name that the server wants to hear. A server that does not tell its model needs none; why it does
    not is in `untold` then.
    """

    name: str
    served_as: str | None
    profile: Profile
    in_registry: bool
    untold: str | None = None

    @property
    def warning(self) -> str | None:
        """What to tell users of a model without a profile of its own."""
        if self.in_registry:
            return None
        defaults = f"(steps={self.profile.default_steps}, guidance={self.profile.default_guidance_scale})"
        if self.untold is not None:
            return (
                f"The server does not tell its model. {self.untold} Using fallback defaults {defaults}; say in the "
                "call what suits it. Generation may produce unexpected results."
            )
        return (
            f"Model '{self.name}' is not in the known profiles. Using fallback defaults {defaults}. "
            "Generation may produce unexpected results."
        )


class Plan(msgspec.Struct, frozen=True):
    """All that is decided before pictures are made: one set of parameters a picture, notes for the caller, and the
    pictures to begin from, as PNG files."""

    model: KnownModel
    images: list[ImageParameters]
    notes: list[str]
    references: list[bytes] = []


class MadeImage(msgspec.Struct, frozen=True):
    """A picture that was made and saved; where it could not be saved, `unsaved` shows it, and there is no path."""

    file_path: str | None
    n_bytes: int
    generation_time_s: float
    parameters: ImageParameters
    notes: list[str]
    unsaved: Preview | None = None


class ImageMaker:
    """The pictures of one vLLM-Omni server. Its coroutines run on the loop of `jobs`; the rest may be called from any
    thread."""

    def __init__(
        self, client: OmniClient, profiles: ProfileBook, folder: OutputFolder, jobs: Jobs, decoder: Decoder
    ) -> None:
        self.client = client
        self.decoder = decoder
        self.folder = folder
        self.jobs = jobs
        self.speeds = SpeedBook()
        self.peak_memory_mb: float | None = None
        """What the server said of its memory after its last picture."""
        jobs.at_end(client.close)
        self.profiles = profiles
        self._served: ServedModel | str | None = None
        self._served_until_s = 0.0

    async def model(self) -> KnownModel:
        """The model on the server with its profile. One that the server does not tell does not stop a generation.

        Raises: `ServerUnreachable`, `InvalidParameters`.
        """
        if self._served is None or time.monotonic() > self._served_until_s:
            try:
                self._served = await self.client.served_model()
            except (ConnectionLost, ServerRefused, ServerFailed, ServerTooSlow, UnusableAnswer) as error:
                self._served = str(error)
            self._served_until_s = time.monotonic() + MODEL_KNOWN_S
        served = self._served
        if isinstance(served, str):
            return KnownModel(UNKNOWN, None, FALLBACK, False, served)
        return KnownModel(served.shown, served.id, *self.profiles.find(served.id, served.root))

    async def plan(
        self,
        prompts: Sequence[str],
        wishes: Wishes,
        seeds: Sequence[int] | None = None,
        references: Sequence[bytes] = (),
    ) -> Plan:
        """Decides everything about some pictures.

        Raises: `InvalidParameters`, `OutputFailed`, and the client's errors.
        """
        model = await self.model()
        _check_references(model, len(references))
        self.folder.check()
        shape = png.size(references[0]) if references else None
        images, notes = [], [model.warning] if model.warning else []
        for index, prompt in enumerate(prompts):
            own = wishes if seeds is None else msgspec.structs.replace(wishes, seed=seeds[index])
            parameters, more = resolve(
                model.name, model.profile, prompt, own, reference_images=len(references), shape=shape
            )
            images.append(parameters)
            notes += [note for note in more if note not in notes]
        return Plan(model, images, notes, list(references))

    def start(self, kind: str, plan: Plan, limit: int, filename: str | None = None) -> Job:
        """Starts a job that makes a plan's pictures, `limit` at once; `filename` is a name for the only one.

        Raises: `InvalidParameters` for the name, `TooManyJobs`.
        """
        name = None if filename is None else checked_name(filename, ".png")

        async def work(job: Job, item: Item) -> MadeImage:
            return await self._make(plan, item.index, name)

        labels = [parameters.prompt for parameters in plan.images]
        kept = msgspec.structs.replace(plan, references=[])  # a job is kept for a day, its pictures need not be
        return self.jobs.start(kind, labels, work, server=self.client.url, limit=limit, details=kept)

    async def _make(self, plan: Plan, index: int, name: str | None) -> MadeImage:
        parameters = plan.images[index]
        begun_s = time.monotonic()
        picture = await self._generated(plan, parameters)
        seconds = time.monotonic() - begun_s
        if picture.peak_memory_mb is not None:
            self.peak_memory_mb = picture.peak_memory_mb
        self.speeds.learn(parameters, picture.compute_s or seconds)
        side = PREVIEW_SIDE if len(plan.images) == 1 else SHEET_PREVIEW_SIDE
        return await kept(lambda: self._save(picture.data, parameters, name, seconds, side))

    async def _generated(self, plan: Plan, parameters: ImageParameters) -> Picture:
        model = plan.model
        name = {} if model.served_as is None else {"model": model.served_as}
        try:
            return await self._asked({**name, **parameters.request(model.profile)}, plan, parameters)
        except ModelChanged:
            self._served = None
            raise

    async def _asked(self, fields: dict[str, Any], plan: Plan, parameters: ImageParameters) -> Picture:
        n_pixels = parameters.width * parameters.height
        if plan.references:
            return await self.client.edit(fields, plan.references, n_pixels)
        return await self.client.generate(fields, n_pixels)

    def _save(
        self, data: bytes, parameters: ImageParameters, name: str | None, seconds: float, preview_side: int
    ) -> MadeImage:
        image = checked(data, self.decoder)
        notes = []
        if (image.width, image.height) != (parameters.width, parameters.height):
            notes.append(
                f"The server made {image.width}x{image.height} pixels of {parameters.width}x{parameters.height}."
            )
            parameters = msgspec.structs.replace(parameters, width=image.width, height=image.height)
        file = png.with_text(image.png, {"parameters": msgspec.json.encode(parameters).decode()})
        try:
            path = self.folder.save(file, name or automatic_name("img", parameters.prompt, ".png"))
        except OutputFailed as error:
            # The folder took files before the generation began: what has been made since is shown at least.
            notes.append(f"No file was written: {error} The preview is all there is; the same seed makes it again.")
            unsaved = small_preview(file, self.decoder, preview_side)
            return MadeImage(None, 0, round(seconds, 3), parameters, notes, unsaved)
        return MadeImage(path, len(file), round(seconds, 3), parameters, notes)


def _check_references(model: KnownModel, n_references: int) -> None:
    most = model.profile.max_reference_images
    if most is None or n_references <= most:
        return
    if most == 0:
        raise InvalidParameters(
            f"The model {model.name} makes pictures from words only: it cannot begin from image_paths. Leave them out, "
            "or serve a model that edits pictures, such as black-forest-labs/FLUX.2-klein-4B."
        )
    raise InvalidParameters(f"The model {model.name} takes at most {most} pictures in image_paths.")
