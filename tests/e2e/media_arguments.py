"""Every argument that names media, with the other arguments that its tool needs then.

Whoever adds such an argument adds a row; `tests/unit/test_media_arguments.py` fails until then.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from mcp_protocol.tools.toolbox import Tool

Json = dict[str, Any]
IMAGE, VOICE, CLIP = "@image", "@voice", "@clip"
"""Stand for paths of good files."""
MEDIA_NAME = re.compile(r"(?:.*_)?(?:path|url|audio|image|video|mask|like)s?")
"""The names of arguments that name media."""
NEEDED: Mapping[tuple[str, str], Json] = {
    ("analyze_images_with_query", "image_paths"): {"query": "a"},
    ("check_image_relevance", "image_path"): {"query": "a"},
    ("analyze_single_image", "image_path"): {"query": "a"},
    ("analyze_video", "video_path"): {"query": "a"},
    ("transcribe_audio", "audio_path"): {},
    ("generate_image", "image_paths"): {"prompt": "a"},
    ("generate_image", "like"): {},
    ("generate_image", "mask_path"): {"prompt": "a", "image_paths": [IMAGE]},
    ("generate_video", "image_path"): {"prompt": "a"},
    ("generate_speech", "reference_audio"): {"text": "a"},
    ("process_image_to_video", "image_path"): {"audio_path": VOICE},
    ("process_image_to_video", "audio_path"): {"image_path": IMAGE},
    ("process_video_to_video", "video_path"): {"audio_path": VOICE},
    ("process_video_to_video", "audio_path"): {"video_path": CLIP},
    ("generate_multimodal_response", "image_urls"): {"prompt": "a", "provider": "local"},
    ("generate_multimodal_response", "file_paths"): {"prompt": "a", "provider": "local"},
    ("validate_multimodal_request", "image_urls"): {"prompt": "a"},
    ("validate_multimodal_request", "file_paths"): {"prompt": "a"},
    ("view_media", "paths"): {},
    ("read_media", "path"): {},
}


def media_arguments(tools: Iterable[Tool]) -> dict[tuple[str, str], bool]:
    """The arguments that name media, by tool and name, and whether each takes several."""
    return {
        (tool.name, field.encode_name): field.encode_name.endswith("s")
        for tool in tools
        for field in msgspec.structs.fields(tool.arguments)
        if MEDIA_NAME.fullmatch(field.encode_name) and "str" in str(field.type)
    }
