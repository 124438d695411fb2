"""`like`: the arguments of an earlier image, read from its file, with the differences that the caller gives."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

import msgspec

from handlers.media_generation.references import path_of_reference
from handlers.resources.written_files import open_written
from mcp_protocol.tools.toolbox import ArgumentError
from media.errors import MediaError, shown
from omni.errors import InvalidParameters, UnknownJob

if TYPE_CHECKING:
    from handlers.services import Services
    from mcp_protocol.calls.call import Call
    from omni.images.parameters import ImageParameters

ArgumentsT = TypeVar("ArgumentsT", bound=msgspec.Struct)


def like(arguments: ArgumentsT, call: Call, services: Services) -> tuple[ArgumentsT, list[str]]:
    """The arguments with those of the image that `like` names for all that are missing, and notes for the caller.

    Raises: `ArgumentError` if there is no such image, or its file does not say how it was made.
    """
    given = {name: value for name, value in msgspec.structs.asdict(arguments).items() if value is not None}
    if "like" not in given:
        return arguments, []
    made = _parameters(given["like"], services)
    merged = {**_kept(made, given, type(arguments)), **given}
    if made.reference_images and "image_paths" not in merged:
        raise ArgumentError(
            "arguments.image_paths: the image in like is an edit, and its file does not name its input images; give "
            "them again, with mask_path and strength if it had them."
        )
    try:
        arguments = msgspec.convert(merged, type(arguments))
    except msgspec.ValidationError as error:
        raise ArgumentError(
            f"arguments.like: the file has parameters that are no valid arguments: {str(error).replace('`', '')}."
        ) from None
    served = services.jobs.ask(services.image_maker.model(), call.cancellation).name
    if served == made.model:
        return arguments, []
    return arguments, [
        f"The image in like was made by {made.model}, this one by {served}: it differs, even with the same seed."
    ]


def _kept(made: ImageParameters, given: Mapping[str, object], cls: type[msgspec.Struct]) -> dict[str, object]:
    """The earlier arguments that stay: a ratio replaces both sides, input images all that belongs to the old ones."""
    replaced = {"width", "height"} if "aspect_ratio" in given else set()
    if "image_paths" in given and made.mask:
        replaced |= {"mask_path", "strength"}
    kept = {**msgspec.to_builtins(made), "num_inference_steps": made.steps}
    return {name: kept[name] for name in cls.__struct_fields__ if name in kept and name not in replaced}


def _parameters(reference: str, services: Services) -> ImageParameters:
    from omni.images.written_images import is_image_of_ours, parameters_of

    try:
        with open_written(path_of_reference(reference, services), services) as file:
            made = parameters_of(file) if is_image_of_ours(file) else None
    except UnknownJob as error:
        raise ArgumentError(f"arguments.like: {error} list_images has their paths.") from None
    except (MediaError, InvalidParameters) as error:
        raise ArgumentError(f"arguments.like: {error}") from None
    except OSError:
        raise ArgumentError(f"arguments.like: the file {shown(reference)} cannot be read.") from None
    if made is None:
        raise ArgumentError(
            f"arguments.like: the file {shown(reference)} does not say how it was made; only images of generate_image "
            "and batch_generate do."
        )
    return made
