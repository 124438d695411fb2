"""The requests of the soak: every tool and method, with valid and invalid arguments, the same for the same seed."""

from __future__ import annotations

import base64
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
from PIL import Image

from benchmarks.pipe_server import Json
from benchmarks.prompts import Prompts, user
from tests.unit.media.sample_media import audio_file, video_file

CHOICES = ("yes", "no", "perhaps")
SESSIONS = tuple(f"session {number}" for number in range(12))
IMAGE_SIDE = 64


class Request(msgspec.Struct, frozen=True):
    """One message that has an answer; `fails` is whether that must be an error, `None` where it may be one."""

    kind: str
    method: str
    params: Json
    fails: bool | None = False
    may_be_cancelled: bool = False


class Traffic:
    """A source of rounds.

    Arguments: a folder for the images, the sound and the clip that calls name; the seed.
    """

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self._random = random.Random(seed)
        self._prompts = Prompts(seed)
        self._images = [folder / f"image {number}.png" for number in range(6)]
        for image in self._images:
            image.write_bytes(base64.b64decode(self._prompts.data_url().partition(",")[2]))
        self._mask = folder / "mask.png"
        mask = Image.new("L", (IMAGE_SIDE, IMAGE_SIDE))
        mask.paste(255, (0, 0, IMAGE_SIDE // 2, IMAGE_SIDE))
        mask.save(self._mask)
        self._voice, self._clip = folder / "voice.mp3", folder / "clip.mp4"
        self._voice.write_bytes(audio_file("mp3", "libmp3lame", 44_100, "stereo", seconds=1))
        self._clip.write_bytes(video_file(size=(96, 64), frames=24, audio="aac"))
        self.jobs: list[str] = []
        """Ids of jobs that were told, newest last."""

    def round(self) -> list[Request]:
        """One of everything, in an order of its own."""
        requests = [*self._text(), *self._sight(), *self._memory(), *self._made(), *self._rest(), *self._wrong()]
        self._random.shuffle(requests)
        return requests

    def _text(self) -> Iterator[Request]:
        chat = self._chat
        yield tool("chat_completion", {"messages": self._prompts.text(), **self._sampling()}, may_be_cancelled=True)
        yield chat("chat, image in base64", user("What is this?", self._prompts.data_url()))
        yield chat("chat, image by path", self._by_path())
        yield chat("chat, streamed", *self._prompts.text(), progress=True)
        yield chat("chat, 400 tokens", *self._prompts.text(), max_tokens=400, ignore_eos=True, may_be_cancelled=True)
        schema = {"type": "json_schema", "json_schema": {"name": "answer", "schema": {"enum": list(CHOICES)}}}
        yield chat("chat, schema", *self._prompts.text(), response_format=schema)
        for _ in range(3):
            yield chat("chat, session", *self._prompts.text(), session_id=self._session(), may_be_cancelled=True)
        yield chat("chat, session with an image", self._by_path(), session_id=self._session())
        yield chat("chat, fork", *self._prompts.text(), session_id=self._session(), fork_session=True, fails=None)
        yield chat("chat, deadline", *self._prompts.text(), max_tokens=2000, ignore_eos=True, timeout_s=0.2, fails=None)
        conversations = [self._prompts.text() if number % 3 else self._prompts.image() for number in range(12)]
        batch = {"conversations": conversations, **self._sampling()}
        yield tool("chat_completion_batch", batch, may_be_cancelled=True)
        yield tool("generate_multimodal_response", {"prompt": "Hello", "provider": "local", **self._sampling()})
        yield tool("validate_multimodal_request", {"prompt": "Hello", "image_urls": [self._prompts.data_url()]})
        yield tool("list_available_providers")

    def _sight(self) -> Iterator[Request]:
        paths = [str(path) for path in self._images]
        query = {"query": "Is there a circle?", "max_tokens": 12}
        yield tool("analyze_images_with_query", {"image_paths": paths, **query}, may_be_cancelled=True)
        mixed = [paths[0], self._prompts.data_url(), "/no/such/picture.png"]
        yield tool("analyze_images_with_query", {"image_paths": mixed, **query}, kind="analysis, one image missing")
        yield tool("check_image_relevance", {"image_path": paths[1], "query": "red"})
        yield tool("analyze_single_image", {"image_path": self._prompts.data_url(), **query})
        few = {"query": "Is there a circle?", "max_frames": 3, "max_tokens": 8}
        yield tool("analyze_video", {"video_path": str(self._clip), **few}, may_be_cancelled=True)
        yield tool("get_model_status")

    def _memory(self) -> Iterator[Request]:
        yield tool("list_sessions", {"limit": 5})
        yield tool("get_session", {"session_id": self._session()}, fails=None)
        yield tool("delete_session", {"session_id": self._session()}, fails=None)
        yield tool("model_info")
        yield tool("get_gpu_status")
        yield tool("offload_gpu", fails=None)  # a CPU cannot
        yield tool("list_available_models")
        yield tool("update_gpu_timeout", {"timeout_seconds": 600})

    def _made(self) -> Iterator[Request]:
        size = {"width": IMAGE_SIDE, "height": IMAGE_SIDE}
        yield tool("generate_image", {"prompt": "a circle", **size}, may_be_cancelled=True)
        yield tool(
            "generate_image", {"prompt": "so", "image_paths": [str(self._images[0])], **size}, kind="image, edited"
        )
        yield tool(
            "generate_image", {"like": f"{self._job()}#0", "seed": 3, **size}, kind="image, like another", fails=None
        )
        yield tool("list_images", {"query": "circle", "limit": 5})
        masked = {"image_paths": [str(self._images[0])], "mask_path": str(self._mask), "strength": 0.8}
        yield tool("generate_image", {"prompt": "so", **masked, **size}, kind="image, edited with a mask")
        best = {"prompt": "a circle on a blue background", "best_of": 2, **size}
        yield tool("generate_image", best, kind="image, the best of two", may_be_cancelled=True)
        yield tool("generate_image", {"prompt": "a circle", "check": True, **size}, kind="image, checked")
        yield tool("batch_generate", {"prompts": ["a", "b", "c"], **size}, may_be_cancelled=True)
        yield tool("batch_generate", {"prompts": ["a", "b"], "wait_s": 0, **size}, kind="batch, not waited for")
        words = {"prompt": "a ball rolls", "num_frames": 9, **size}
        yield tool("generate_video", words, may_be_cancelled=True)
        yield tool("generate_video", {**words, "image_path": str(self._images[0])}, kind="video, from an image")
        yield tool("process_image_to_video", {"image_path": str(self._images[0]), **self._talking(size)})
        yield tool("process_video_to_video", {"video_path": str(self._clip), **self._talking(size)})
        yield tool(
            "process_image_to_video", {"image_path": str(self._images[1]), **self._words(size)}, kind="words, filmed"
        )
        yield tool("generate_speech", {"text": "One, two, three."}, may_be_cancelled=True)
        cloned = {"reference_audio": str(self._voice), "reference_text": "So", "format": "flac"}
        yield tool("generate_speech", {"text": "One, two, three.", **cloned}, kind="speech, cloned voice")
        yield tool("list_jobs")
        yield tool("job_status", {"job_id": self._job(), "wait_s": 0.2}, fails=None)
        yield tool("cancel_batch", {"batch_id": self._job()}, fails=None)
        yield tool("get_model_info")
        yield tool("gpu_status")
        yield tool("list_presets")
        yield tool("server_health")
        yield tool("estimate_generation", {"num_images": 3})

    def _rest(self) -> Iterator[Request]:
        yield Request("ping", "ping", {})
        for listed in ("tools", "resources", "resources/templates", "prompts"):
            yield Request(f"{listed}/list", f"{listed}/list", {})
        yield Request("resources/read", "resources/read", {"uri": "vllm://model"})
        session = {"uri": f"vllm://sessions/{self._session().replace(' ', '%20')}"}
        yield Request("resources/read, session", "resources/read", session, fails=None)
        yield Request("resources/subscribe", "resources/subscribe", {"uri": "vllm://model"})
        yield Request("resources/unsubscribe", "resources/unsubscribe", {"uri": "vllm://model"})
        image = {"picture": str(self._images[0])}
        yield Request("prompts/get", "prompts/get", {"name": "describe_picture", "arguments": image})
        asked: Json = {
            "ref": {"type": "ref/prompt", "name": "describe_picture"},
            "argument": {"name": "language", "value": "G"},
        }
        yield Request("completion/complete", "completion/complete", asked)
        yield Request("logging/setLevel", "logging/setLevel", {"level": "warning"})

    def _wrong(self) -> Iterator[Request]:
        wrong: tuple[tuple[str, Json], ...] = (
            ("chat_completion", {"messages": []}),
            ("chat_completion", {"messages": self._prompts.text(), "temperature": 99}),
            ("chat_completion", {"messages": self._prompts.text(), "no_such_argument": 1}),
            ("chat_completion", {"messages": [user("x " * 40_000)]}),
            ("chat_completion", {"messages": [user("What?", "data:image/png;base64,AAAA")]}),
            ("analyze_single_image", {"image_path": "/etc/passwd", "query": "?"}),
            ("get_session", {"session_id": "nobody"}),
            ("generate_image", {"prompt": "a", "width": -1}),
            ("generate_image", {"prompt": "a", "lora": "../no_such_adapter"}),
            ("generate_image", {"like": "/etc/passwd"}),
            ("list_images", {"cursor": "../../etc"}),
            ("generate_video", {"prompt": "a", "num_frames": 9, "duration_s": 1}),
            ("generate_image", {"prompt": "a", "best_of": 2, "check": False}),
            ("process_image_to_video", {"image_path": str(self._voice), "audio_path": str(self._clip)}),
            ("generate_speech", {"text": "One", "reference_audio": str(self._images[0])}),
            ("job_status", {"job_id": "../../etc"}),
            ("transcribe_audio", {"audio_path": str(self._voice)}),  # there is no speech model
        )
        for name, arguments in wrong:
            yield tool(name, arguments, kind=f"{name}, wrong", fails=True)
        yield Request("tools/call, unknown tool", "tools/call", {"name": "no_such_tool"}, fails=True)
        yield Request("tools/call, wrong params", "tools/call", {"name": 5, "arguments": []}, fails=True)
        yield Request("unknown method", "no/such/method", {}, fails=True)
        yield Request("resources/read, wrong", "resources/read", {"uri": "file:///etc/passwd"}, fails=True)

    def _chat(
        self,
        kind: str,
        message: Json,
        *,
        fails: bool | None = False,
        may_be_cancelled: bool = False,
        progress: bool = False,
        **arguments: object,
    ) -> Request:
        given = {"messages": [message], **self._sampling(), **arguments}
        made = tool("chat_completion", given, kind=kind, fails=fails, may_be_cancelled=may_be_cancelled)
        if progress:
            made.params["_meta"] = {"progressToken": kind}
        return made

    def _by_path(self) -> Json:
        image = {"type": "image", "path": str(self._random.choice(self._images))}
        return {"role": "user", "content": [image, {"type": "text", "text": "What is in this image?"}]}

    def _sampling(self) -> Json:
        return {"temperature": 0, "max_tokens": self._random.choice((1, 8, 24))}

    def _session(self) -> str:
        return self._random.choice(SESSIONS)

    def _talking(self, size: Json) -> Json:
        return {"audio_path": str(self._voice), "num_inference_steps": 2, **size}

    def _words(self, size: Json) -> Json:
        return {"speech_text": "One, two, three.", "num_inference_steps": 2, **size}

    def _job(self) -> str:
        return self._random.choice(self.jobs[-4:]) if self.jobs else "batch_0"


def tool(
    name: str,
    arguments: Json | None = None,
    *,
    kind: str | None = None,
    fails: bool | None = False,
    may_be_cancelled: bool = False,
) -> Request:
    """A `tools/call`."""
    return Request(kind or name, "tools/call", {"name": name, "arguments": arguments or {}}, fails, may_be_cancelled)


Broken = Callable[[random.Random], bytes]
BROKEN: tuple[Broken, ...] = (
    lambda source: b"{",
    lambda source: source.randbytes(200).replace(b"\n", b"x").replace(b"\r", b"y") + b"\xff",
    lambda source: b'{"jsonrpc":"2.0","method":7}',
    lambda source: b"[" * 5000,
)
"""Lines that are no messages; each is answered with an error that has no id, or none that means a request."""
