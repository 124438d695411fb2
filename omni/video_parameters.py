"""What a caller asks of a talking video, what the model's profile says and the picture's shape become one request."""

from __future__ import annotations

import base64
import math
import re

import msgspec

from omni.errors import InvalidParameters
from omni.parameters import draw_seed
from omni.video_models import VideoProfile, extra_fields

DEFAULT_PROMPT = "A person talks to the viewer."
"""The models want words as well; where the caller has none, these say no more than the picture and the voice do."""
MIN_CLIP_FRAMES = 16
_RATIO = re.compile(r"\s*([1-9][0-9]{0,3})\s*[:x/]\s*([1-9][0-9]{0,3})\s*")
_MAX_RATIO = 4.0


class VideoWishes(msgspec.Struct, frozen=True):
    """What a caller may say about a video; None is left to the model's profile."""

    text_prompt: str | None = None
    width: int | None = None
    height: int | None = None
    aspect_ratio: str | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    num_frames: int | None = None
    seed: int | None = None


class VideoParameters(msgspec.Struct, frozen=True):
    """Everything beside picture and sound that decides how a video looks; `num_frames` is for each clip of it."""

    model: str
    prompt: str
    width: int
    height: int
    steps: int
    guidance_scale: float
    seed: int
    num_frames: int
    fps: int
    audio_s: float

    @property
    def clip_s(self) -> float:
        """Seconds of one clip."""
        return self.num_frames / self.fps

    @property
    def megapixel_steps(self) -> float:
        """How much work it is: millions of pixels times steps, over all frames of whole clips."""
        frames = math.ceil(self.audio_s / self.clip_s) * self.num_frames
        return self.width * self.height * self.steps * frames / 1e6

    def request(self, profile: VideoProfile, wav: bytes) -> dict[str, str]:
        """The fields of the videos API beside the model's name and the picture; sound is taken as a URL only."""
        sound = "data:audio/wav;base64," + base64.b64encode(wav).decode("ascii")
        fields = {
            "prompt": self.prompt,
            "size": f"{self.width}x{self.height}",
            "num_frames": self.num_frames,
            "fps": self.fps,
            "num_inference_steps": self.steps,
            "guidance_scale": self.guidance_scale,
            "seed": self.seed,
            "audio_reference": {"audio_url": sound},
            **extra_fields(profile, self.width * self.height),
        }
        return {
            name: msgspec.json.encode(value).decode() if isinstance(value, dict) else str(value)
            for name, value in fields.items()
        }


def resolve_video(
    model: str, profile: VideoProfile, wishes: VideoWishes, picture: tuple[int, int], audio_s: float
) -> tuple[VideoParameters, list[str]]:
    """The complete parameters, with a note on each wish that could not be followed; `picture` is (width, height).

    Raises: `InvalidParameters`.
    """
    notes = []
    width, height = _size(profile, wishes, picture)
    if wishes.aspect_ratio is not None and (wishes.width is not None or wishes.height is not None):
        notes.append(f"width and height were ignored: aspect_ratio {wishes.aspect_ratio.strip()} is {width}x{height}.")
    if profile.sizes_itself:
        notes.append("This model makes the size out of its own table that is nearest to what was asked for.")
    parameters = VideoParameters(
        model=model,
        prompt=wishes.text_prompt or DEFAULT_PROMPT,
        width=width,
        height=height,
        steps=wishes.num_inference_steps or profile.default_steps,
        guidance_scale=profile.default_guidance_scale if wishes.guidance_scale is None else wishes.guidance_scale,
        seed=draw_seed() if wishes.seed is None else wishes.seed,
        num_frames=_clip_frames(profile, wishes.num_frames, audio_s),
        fps=profile.fps,
        audio_s=round(audio_s, 3),
    )
    return parameters, notes


def _clip_frames(profile: VideoProfile, wish: int | None, audio_s: float) -> int:
    if wish is None:
        if profile.lost_frames is None:
            return profile.clip_frames
        # Clips of equal length end soon after the sound does; the last of clips of full length may be all but silent.
        frames = audio_s * profile.fps + profile.lost_frames
        clips = math.ceil(frames / profile.clip_frames)
        return max(MIN_CLIP_FRAMES, math.ceil(frames / clips / 4) * 4)
    if wish % 4 != profile.frames_over:
        nearest = max(1, round((wish - profile.frames_over) / 4)) * 4 + profile.frames_over
        rule = "a multiple of 4" if not profile.frames_over else f"a multiple of 4 and {profile.frames_over} more"
        raise InvalidParameters(f"num_frames {wish} is not {rule}, as this model's clips are. Nearest is {nearest}.")
    return wish


def _size(profile: VideoProfile, wishes: VideoWishes, picture: tuple[int, int]) -> tuple[int, int]:
    multiple = profile.multiple
    if wishes.aspect_ratio is None and wishes.width is not None and wishes.height is not None:
        for name, side in (("Width", wishes.width), ("Height", wishes.height)):
            if side % multiple:
                nearest = max(1, round(side / multiple)) * multiple
                raise InvalidParameters(
                    f"{name} {side} is not a multiple of {multiple}. Nearest valid {name.lower()} is {nearest}."
                )
        if wishes.width * wishes.height > profile.max_area:
            raise InvalidParameters(
                f"{wishes.width}x{wishes.height} has {wishes.width * wishes.height} pixels; this model's videos have "
                f"at most {profile.max_area}. Reduce width or height."
            )
        return wishes.width, wishes.height
    if wishes.aspect_ratio is None and (wishes.width is not None or wishes.height is not None):
        raise InvalidParameters("Give both width and height, or neither: the picture's own shape decides then.")
    ratio = _ratio(wishes.aspect_ratio) if wishes.aspect_ratio is not None else picture[0] / picture[1]
    ratio = min(max(ratio, 1 / _MAX_RATIO), _MAX_RATIO)
    area = min(max(picture[0] * picture[1], profile.min_area), profile.area)
    width, height = math.sqrt(area * ratio), math.sqrt(area / ratio)
    return max(1, int(width // multiple)) * multiple, max(1, int(height // multiple)) * multiple


def _ratio(text: str) -> float:
    found = _RATIO.fullmatch(text)
    if not found or not 1 / _MAX_RATIO <= int(found[1]) / int(found[2]) <= _MAX_RATIO:
        raise InvalidParameters(
            f"The aspect ratio {text[:20]!r} is none: two numbers such as 16:9 are expected, neither more than "
            f"{_MAX_RATIO:g} times the other."
        )
    return int(found[1]) / int(found[2])
