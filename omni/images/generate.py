"""Image generation: finds the served model, resolves the parameters, and runs jobs that save images."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from http_client.model_list import ServedModel
from omni.client import UNKNOWN, UNREPORTED_MODEL, GeneratedImage, OmniClient
from omni.errors import ModelChanged, OutputFailed, ServerFailed, ServerRefused
from omni.files.metadata import with_png_text
from omni.files.output_folder import OutputFolder, automatic_name, checked_name
from omni.images.checks import Candidate, ImageCheck
from omni.images.editing import NO_INPUTS, Inputs, check_inputs, masked
from omni.images.loras import NO_LORAS, ImageLoras
from omni.images.parameters import ImageOptions, ImageParameters, resolve
from omni.images.previews import PREVIEW_SIDE, SHEET_PREVIEW_SIDE, Preview, checked, small_preview
from omni.images.profiles import FALLBACK, Profile, ProfileBook
from omni.images.speed import SpeedBook
from omni.jobs.job import Item, Job
from omni.jobs.jobs import Jobs, run_in_thread, run_shielded

if TYPE_CHECKING:
    from media.decoder import Decoder

MODEL_KNOWN_S = 30.0
"""How long the name of the served model is cached; the server rejects an outdated one, which clears the cache."""


class ImageModel(msgspec.Struct, frozen=True):
    """The served model with its profile.

    Attributes:
        name: for users.
        served_as: the name in requests; `None` where the server reports no model.
        profile: its parameters.
        in_registry: whether it has its own profile.
        unreported: why the server reports no model.
    """

    name: str
    served_as: str | None
    profile: Profile
    in_registry: bool
    unreported: str | None = None

    @property
    def warning(self) -> str | None:
        """The warning for a model without its own profile."""
        if self.in_registry:
            return None
        defaults = f"(steps={self.profile.default_steps}, guidance={self.profile.default_guidance_scale})"
        cause = f"Model '{self.name}' is not in the known profiles."
        if self.unreported is not None:
            cause = f"The server does not report its model. {self.unreported}"
        return f"{cause} Using fallback defaults {defaults}. Generation may produce unexpected results."


class ImagePlan(msgspec.Struct, frozen=True):
    """Everything that is decided before images are made.

    Attributes:
        model: the served model.
        images: the parameters of each image.
        notes: for the caller.
        inputs: the input images of an edit.
    """

    model: ImageModel
    images: list[ImageParameters]
    notes: list[str]
    inputs: Inputs = NO_INPUTS

    def without_media(self) -> ImagePlan:
        """What a job keeps of it for a day."""
        return msgspec.structs.replace(self, inputs=NO_INPUTS)


class RawImage(msgspec.Struct, frozen=True):
    """An image as the server sent it, not saved yet.

    Attributes:
        data: the image file.
        parameters: what it was made with.
        seconds: how long it took.
    """

    data: bytes
    parameters: ImageParameters
    seconds: float


class MadeImage(msgspec.Struct, frozen=True):
    """A generated image; where it could not be saved, `file_path` is `None` and `unsaved` is its preview."""

    file_path: str | None
    n_bytes: int
    generation_time_s: float
    parameters: ImageParameters
    notes: list[str]
    unsaved: Preview | None = None


class CheckedImage(MadeImage, frozen=True, kw_only=True):
    """A saved image with its check, `None` where it could not be made, and all candidates if there were several."""

    check: ImageCheck | None
    candidates: list[Candidate] | None


class ImageMaker:
    """Makes images with one vLLM-Omni server. Its coroutines run on the event loop of `jobs`; any thread may call the
    other methods.

    Arguments:
        client: the server.
        profiles: the model profiles.
        folder: where images are saved.
        jobs: runs the generations.
        decoder: checks images in a child process.
        loras: the LoRA adapters that a call may name.
    """

    def __init__(
        self,
        client: OmniClient,
        profiles: ProfileBook,
        folder: OutputFolder,
        jobs: Jobs,
        decoder: Decoder,
        loras: ImageLoras = NO_LORAS,
    ) -> None:
        self.client = client
        self.loras = loras
        self.decoder = decoder
        self.folder = folder
        self.jobs = jobs
        self.speeds = SpeedBook()
        self.peak_memory_mb: float | None = None
        """The peak memory that the server reported with its last image."""
        jobs.at_end(client.close)
        self.profiles = profiles
        self._served: ServedModel | str | None = None
        self._served_until_s = 0.0

    async def model(self) -> ImageModel:
        """The served model with its profile. A server that reports no model does not stop a generation.

        Raises: `ServerUnreachable`, `InvalidParameters`.
        """
        if self._served is None or time.monotonic() > self._served_until_s:
            try:
                self._served = await self.client.served_model()
            except UNREPORTED_MODEL as error:
                self._served = str(error)
            self._served_until_s = time.monotonic() + MODEL_KNOWN_S
        served = self._served
        if isinstance(served, str):
            return ImageModel(UNKNOWN, None, FALLBACK, False, served)
        return ImageModel(served.shown, served.id, *self.profiles.find(served.id, served.root))

    async def plan(
        self,
        prompts: Sequence[str],
        options: ImageOptions,
        seeds: Sequence[int] | None = None,
        inputs: Inputs = NO_INPUTS,
    ) -> ImagePlan:
        """Decides everything about images, without making them.

        Arguments:
            prompts: one for each image.
            options: what the caller set, the same for all.
            seeds: one for each image; they override the seed in `options`.
            inputs: the input images of an edit.

        Raises: `InvalidParameters`, `OutputFailed`, and the client's errors.
        """
        self.loras.check(options.lora)
        model = await self.model()
        notes = [model.warning] if model.warning else []
        notes += check_inputs(model.name, model.profile, inputs, options.strength)
        self.folder.check()
        images = []
        for index, prompt in enumerate(prompts):
            own = options if seeds is None else msgspec.structs.replace(options, seed=seeds[index])
            parameters, more = resolve(model.name, model.profile, prompt, own, inputs)
            images.append(parameters)
            notes += [note for note in more if note not in notes]
        if inputs.mask is not None:
            size = images[0].width, images[0].height
            inputs, more = await run_in_thread(lambda: masked(inputs, size))
            notes += more
        return ImagePlan(model, images, notes, inputs)

    def start(self, kind: str, plan: ImagePlan, limit: int, filename: str | None = None) -> Job[ImagePlan, MadeImage]:
        """Starts a job that makes the images of a plan.

        Arguments:
            kind: the beginning of the job's id.
            plan: what to make.
            limit: how many images are made at once.
            filename: the name of a single image's file.

        Raises: `InvalidParameters` for the name, `TooManyJobs`.
        """
        name = None if filename is None else checked_name(filename, ".png")

        async def work(job: Job[ImagePlan, MadeImage], item: Item[MadeImage]) -> MadeImage:
            return await self._make(plan, item.index, name)

        labels = [parameters.prompt for parameters in plan.images]
        return self.jobs.start(kind, labels, work, server=self.client.url, limit=limit, plan=plan.without_media())

    async def _make(self, plan: ImagePlan, index: int, name: str | None) -> MadeImage:
        image = await self.generate(plan, index)
        return await self.save(image, name, PREVIEW_SIDE if len(plan.images) == 1 else SHEET_PREVIEW_SIDE)

    async def generate(self, plan: ImagePlan, index: int) -> RawImage:
        """Makes one image of a plan, and saves nothing.

        Raises: the client's errors.
        """
        parameters = plan.images[index]
        begun_s = time.monotonic()
        image = await self._generated(plan, parameters)
        seconds = time.monotonic() - begun_s
        if image.peak_memory_mb is not None:
            self.peak_memory_mb = image.peak_memory_mb
        self.speeds.learn(parameters.model, parameters.megapixel_steps, image.compute_s or seconds)
        return RawImage(image.data, parameters, seconds)

    def check(self, image: RawImage) -> None:
        """Decodes an image completely; raises `InvalidResponse` where it is none. May take a second."""
        checked(image.data, self.decoder)

    async def save(self, image: RawImage, name: str | None, preview_side: int = PREVIEW_SIDE) -> MadeImage:
        """Checks an image and saves it.

        Arguments:
            image: from `generate`.
            name: the name of its file, `None` for one of its own.
            preview_side: pixels of the preview that is kept where the file cannot be written.

        Raises: `InvalidResponse` where it is no complete image.
        """
        return await run_shielded(lambda: self._save(image.data, image.parameters, name, image.seconds, preview_side))

    async def _generated(self, plan: ImagePlan, parameters: ImageParameters) -> GeneratedImage:
        model = plan.model
        name = {} if model.served_as is None else {"model": model.served_as}
        fields = {**name, **parameters.request(model.profile), **self.loras.fields(parameters.lora)}
        try:
            return await self._request(fields, plan.inputs, parameters)
        except ModelChanged:
            self._served = None
            raise
        except (ServerFailed, ServerRefused) as error:
            raise self.loras.explained(error, parameters.lora) from None

    async def _request(self, fields: dict[str, Any], inputs: Inputs, parameters: ImageParameters) -> GeneratedImage:
        n_pixels = parameters.width * parameters.height
        if inputs.images:
            return await self.client.edit(fields, inputs.images, n_pixels, inputs.mask)
        return await self.client.generate(fields, n_pixels)

    def _save(
        self, data: bytes, parameters: ImageParameters, name: str | None, seconds: float, preview_side: int
    ) -> MadeImage:
        image = checked(data, self.decoder)
        notes = []
        if (image.width, image.height) != (parameters.width, parameters.height):
            notes.append(
                f"The server made {image.width}x{image.height} pixels instead of "
                f"{parameters.width}x{parameters.height}."
            )
            parameters = msgspec.structs.replace(parameters, width=image.width, height=image.height)
        file = with_png_text(image.png, {"parameters": msgspec.json.encode(parameters).decode()})
        try:
            path = self.folder.save(file, name or automatic_name("img", parameters.prompt, ".png"))
        except OutputFailed as error:
            # The folder was writable before the generation.
            notes.append(f"No file was written: {error} Only the preview exists; the same seed makes the image again.")
            unsaved = small_preview(file, self.decoder, preview_side)
            return MadeImage(None, 0, round(seconds, 3), parameters, notes, unsaved)
        return MadeImage(path, len(file), round(seconds, 3), parameters, notes)
