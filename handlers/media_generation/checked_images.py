"""Images that are looked at before they are handed over: `check` and `best_of` of `generate_image`.

A job with one item makes all candidates, asks the chat model about them, and saves the best one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec

from handlers.image_checks import check_images
from handlers.media_generation.local_jobs import THIS_SERVER
from mcp_protocol.tools.toolbox import ArgumentError
from media.image import BYTES_PER_PIXEL
from omni.errors import OmniError
from omni.files.output_folder import checked_name
from omni.images.checks import Candidate, best, check_of, miss_note
from omni.images.parameters import MAX_GIVEN_SEED, draw_seed
from omni.jobs.jobs import MAX_OPEN_JOBS, run_in_thread, run_until_cancelled
from sandbox.budget import OverBudget

if TYPE_CHECKING:
    from handlers.image_checks import Checks
    from handlers.services import Services
    from omni.images.generate import CheckedImage, ImagePlan, MadeImage, RawImage
    from omni.images.parameters import ImageParameters
    from omni.jobs.job import Item, Job
    from sandbox.budget import Holding
    from sandbox.cancellation import Cancellation

CHECKED_IMAGES = "checked images"
"""Whose slots the jobs take; the image server's are taken for each candidate."""
FILE_BYTES_PER_PIXEL = 3
"""Of a PNG file that cannot be compressed."""


def check_arguments(best_of: int | None, check: bool | None, seed: int | None, services: Services) -> None:
    """Refuses, before anything is generated, what can certainly not be done.

    Raises: `ArgumentError` where a seed has no successors, or the chat model certainly sees no images.
    """
    if best_of is None:
        return
    if check is False:
        raise ArgumentError("arguments.check: best_of chooses by the check. Leave check out, or leave best_of out.")
    if seed is not None and seed + best_of - 1 > MAX_GIVEN_SEED:
        raise ArgumentError(f"arguments.seed: with best_of {best_of} it is at most {MAX_GIVEN_SEED - best_of + 1}.")
    status = services.models.engine().status()
    if status.supports_images is False or status.transcribes:
        raise ArgumentError(
            f"arguments.best_of: the chat model {status.model_name} cannot look at images, so it cannot choose the "
            "best one. Leave best_of out, or set VLLM_MODEL_NAME to a vision model."
        )


def start(
    plan: ImagePlan,
    best_of: int | None,
    limit: int,
    services: Services,
    *,
    filename: str | None = None,
    random_seeds: bool = True,
) -> Job[ImagePlan, CheckedImage]:
    """Starts the job.

    Arguments:
        plan: of one image.
        best_of: how many candidates are made, `None` for the one image.
        limit: how many images the server makes at once.
        services: have the image server and the chat model.
        filename: the name of the file.
        random_seeds: whether each candidate draws its seed; else they follow the first one's.

    Raises: `InvalidParameters` for the file's name, `ArgumentError` for too many or too large candidates,
    `TooManyJobs`.
    """
    images = _candidates(plan.images[0], best_of or 1, is_random=random_seeds)
    plan = msgspec.structs.replace(plan, images=images)
    name = None if filename is None else checked_name(filename, ".png")
    holding = _held(images, services)

    async def work(job: Job[ImagePlan, CheckedImage], item: Item[CheckedImage]) -> CheckedImage:
        return await _Making(job, plan, limit, services).run(name)

    try:
        return services.jobs.start(
            "image",
            [images[0].prompt],
            work,
            server=CHECKED_IMAGES,
            plan=plan.without_media(),
            limit=MAX_OPEN_JOBS,
            on_end=holding.release,
        )
    except BaseException:
        holding.release()
        raise


def _candidates(first: ImageParameters, n_candidates: int, *, is_random: bool) -> list[ImageParameters]:
    """The parameters of each candidate: the seeds follow the caller's, or are all drawn."""
    seeds = [first.seed, *(draw_seed() if is_random else first.seed + more for more in range(1, n_candidates))]
    return [msgspec.structs.replace(first, seed=seed) for seed in seeds]


def _held(images: Sequence[ImageParameters], services: Services) -> Holding:
    n_bytes = sum(image.width * image.height for image in images) * (BYTES_PER_PIXEL + FILE_BYTES_PER_PIXEL)
    try:
        return services.budget.hold(n_bytes)
    except OverBudget as error:
        raise ArgumentError(f"arguments.{'best_of' if len(images) > 1 else 'check'}: {error}") from None


class _Making:
    """The work of one job.

    Arguments:
        job: keeps the progress.
        plan: all candidates.
        limit: how many images the server makes at once.
        services: have the image server and the chat model.
    """

    def __init__(self, job: Job[ImagePlan, CheckedImage], plan: ImagePlan, limit: int, services: Services) -> None:
        self._job = job
        self._plan = plan
        self._limit = limit
        self._services = services
        self._maker = services.image_maker
        self._n_begun = 0

    async def run(self, name: str | None) -> CheckedImage:
        """Makes the candidates, has them checked, and saves the best one.

        Raises: the error of the first candidate where none could be made.
        """
        from omni.images.generate import CheckedImage

        n_candidates = len(self._plan.images)
        try:
            results = await asyncio.gather(*map(self._candidate, range(n_candidates)), return_exceptions=True)
            made, errors = _sorted_out(results)
            if not made:
                raise next(iter(errors.values()))
            checks = await self._checked([image.data for image in made.values()])
            chosen = best(checks.judgements)
            index, image = list(made.items())[chosen]
            saved = await self._maker.save(image, name)
        finally:
            self._job.phase = None
        notes = self._notes(saved, errors, checks, chosen)
        judgement = checks.judgements[chosen]
        return CheckedImage(
            file_path=saved.file_path,
            n_bytes=saved.n_bytes,
            generation_time_s=saved.generation_time_s,
            parameters=saved.parameters,
            notes=notes,
            unsaved=saved.unsaved,
            check=None if judgement is None else check_of(judgement, checks.model),
            candidates=self._listed(list(made), errors, checks, index) if n_candidates > 1 else None,
        )

    async def _candidate(self, index: int) -> RawImage:
        async with self._services.jobs.slot(self._maker.client.url, self._limit):
            self._n_begun += 1
            n_candidates = len(self._plan.images)
            self._job.phase = f"candidate {self._n_begun} of {n_candidates}" if n_candidates > 1 else None
            image = await self._maker.generate(self._plan, index)
        await run_in_thread(lambda: self._maker.check(image))
        return image

    async def _checked(self, files: Sequence[bytes]) -> Checks:
        prompt = self._plan.images[0].prompt

        def check(cancellation: Cancellation) -> Checks:
            return check_images(files, prompt, self._services, cancellation, self._enter)

        async with self._services.jobs.slot(THIS_SERVER, self._services.settings.server.max_concurrent):
            return await run_until_cancelled(check)

    def _enter(self, phase: str) -> None:
        self._job.phase = phase

    def _notes(self, saved: MadeImage, errors: dict[int, OmniError], checks: Checks, chosen: int) -> list[str]:
        """What the caller has to know about the image and its check."""
        notes = [*saved.notes, *(f"Candidate {index} failed: {error}" for index, error in errors.items())]
        judgement = checks.judgements[chosen]
        if judgement is None:
            what = "The image was not checked" if len(self._plan.images) == 1 else "The candidates were not compared"
            kept = "" if len(self._plan.images) == 1 else " The first one was kept."
            return [*notes, f"{what}: {checks.problem}{kept}"]
        if checks.problem is not None:
            notes.append(f"Not all candidates could be checked: {checks.problem}")
        miss = miss_note(judgement, saved.parameters.prompt)
        return notes if miss is None else [*notes, miss]

    def _listed(
        self, made: Sequence[int], errors: dict[int, OmniError], checks: Checks, chosen: int
    ) -> list[Candidate]:
        """All candidates, those that failed too."""
        judgements = dict(zip(made, checks.judgements, strict=True))
        listed = []
        for index, parameters in enumerate(self._plan.images):
            judgement = judgements.get(index)
            listed.append(
                Candidate(
                    index=index,
                    seed=parameters.seed,
                    probability=None if judgement is None else judgement.probability,
                    parts=[] if judgement is None else judgement.parts,
                    chosen=index == chosen,
                    error=str(errors[index]) if index in errors else msgspec.UNSET,
                )
            )
        return listed


def _sorted_out(results: Sequence[RawImage | BaseException]) -> tuple[dict[int, RawImage], dict[int, OmniError]]:
    """The candidates that were made and the errors of the others, by their indices; raises any other error."""
    made, errors = {}, {}
    for index, result in enumerate(results):
        if isinstance(result, OmniError):
            errors[index] = result
        elif isinstance(result, BaseException):
            raise result
        else:
            made[index] = result
    return made, errors
