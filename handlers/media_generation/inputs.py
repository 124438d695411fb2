"""The input images of an edit, and its mask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from handlers.image_reading import call_images
from handlers.media_generation.references import path_of_reference
from handlers.resources.written_files import path_or_url
from mcp_protocol.tools.toolbox import ArgumentError
from media.errors import MediaError
from media.source import local_path
from omni.errors import InvalidParameters
from omni.images.editing import NO_INPUTS, Inputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from handlers.services import Services
    from mcp_protocol.calls.call import Call


class EditArguments(Protocol):
    """Arguments that name input images."""

    @property
    def image_paths(self) -> list[str] | None:
        """References to images: paths, URLs, or jobs."""

    @property
    def mask_path(self) -> str | None:
        """A reference to the mask of the first one."""


def read_inputs(arguments: EditArguments, call: Call, services: Services) -> Inputs:
    """The images that the arguments name, as PNG files; raises `ArgumentError` if one cannot be read."""
    references = {f"image_paths[{index}]": path for index, path in enumerate(arguments.image_paths or [])}
    if arguments.mask_path is not None:
        if not references:
            raise ArgumentError(
                "arguments.mask_path: a mask needs image_paths; the first of them is the image that it belongs to."
            )
        references["mask_path"] = arguments.mask_path
    if not references:
        return NO_INPUTS
    from omni.images.previews import png_of

    files = []
    with call_images(call, services).parallel_parts(list(references.values())) as images:
        for name, image in zip(references, images, strict=True):
            if isinstance(image, str):
                raise ArgumentError(f"arguments.{name}: {image}")
            files.append(png_of(image.image))
    paths = _paths(list(references.values()), services)
    if arguments.mask_path is None:
        return Inputs(files, image_paths=paths)
    *files, mask = files
    return Inputs(files, mask, paths[:-1], paths[-1] if paths else None)


def _paths(references: Sequence[str], services: Services) -> list[str]:
    """The files behind references; none unless all are files: a part of them would not make the image again."""
    try:
        paths = [local_path(path_of_reference(reference, services)) for reference in references]
    except (MediaError, InvalidParameters):  # the job was forgotten since it was read
        return []
    known = [path for path in paths if path is not None]
    if len(known) < len(paths):
        return []
    return [path_or_url(path) for path in known]
