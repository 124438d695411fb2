"""What a served model can make a video from, in fields and in words."""

from __future__ import annotations

import msgspec

from http_client.model_list import ServedModel
from omni.video.models import CAPABLE, is_known, talking_profile
from omni.video.text_models import CAPABLE_FROM_IMAGE, CAPABLE_FROM_TEXT, text_video_profile
from settings import in_clone


class Abilities(msgspec.Struct, frozen=True):
    """What a model makes videos from; `None` where that is not known.

    Attributes:
        talks: from an image and a voice.
        text: from words.
        image: from an image and words.
    """

    talks: bool | None
    text: bool | None
    image: bool | None

    @property
    def description(self) -> str:
        """What it makes, "" for nothing that is known."""
        sources = {"words": self.text, "an image and words": self.image, "an image and a voice": self.talks}
        known = [name for name, can in sources.items() if can]
        return f"videos from {' or from '.join(known)}" if known else ""

    @property
    def note(self) -> str:
        """A sentence for the list of servers."""
        if self.description:
            return f"Makes {self.description}."
        if (self.talks, self.text, self.image) == (False, False, False):
            return f"It makes no videos. {advice(Abilities(True, True, True))}"
        return f"This model is unknown. {_models(Abilities(True, True, True))}"


def abilities(served: ServedModel) -> Abilities:
    """What a model can do by its files or its name; an unknown model may do anything."""
    talks: bool | None = talking_profile(served.id, served.root) is not None
    found = text_video_profile(served.id, served.root)
    if is_known(served.id, served.root):
        return Abilities(True, found is not None, found is not None and found[0].from_image)
    if found is None:
        return Abilities(talks, False, False)
    profile, known = found
    if known:
        return Abilities(False, profile.from_text, profile.from_image)
    return Abilities(None if talks else False, None, None)


def advice(wanted: Abilities) -> str:
    """What to serve and where to enter it, for somebody who wants videos of these kinds."""
    serve = "Wan-AI/Wan2.2-S2V-14B" if wanted.talks else "Wan-AI/Wan2.2-TI2V-5B-Diffusers"
    tiny = "--video" if wanted.talks else "--tiny wan-ti2v"
    return (
        f"{_models(wanted)} Serve one (`vllm serve {serve} --omni`"
        f"{in_clone(f', or without a GPU, for noise only, `scripts/omni-cpu {tiny}`')}) and set OMNI_VIDEO_URL to its "
        "address."
    )


def _models(wanted: Abilities) -> str:
    """The known models that can, by what they make a video from."""
    kinds = (
        (wanted.text, "from words", CAPABLE_FROM_TEXT),
        (wanted.image, "from an image and words", CAPABLE_FROM_IMAGE),
        (wanted.talks, "from an image and a voice", CAPABLE),
    )
    asked = [(source, models) for is_asked, source, models in kinds if is_asked]
    if len(asked) == 1:
        return f"Models that can: {asked[0][1]}."
    return "Models that can: " + "; ".join(f"{source} {models}" for source, models in asked) + "."
