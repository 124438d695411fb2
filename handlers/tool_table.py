"""The table of all tools, from the rows of the packages; `offered_tools` has those that a server offers."""

from __future__ import annotations

from handlers.audio.tools import TOOLS as AUDIO_TOOLS
from handlers.chat.tools import TOOLS as CHAT_TOOLS
from handlers.media_generation.tools import TOOLS as MEDIA_GENERATION_TOOLS
from handlers.model.tools import TOOLS as MODEL_TOOLS
from handlers.providers.tools import TOOLS as PROVIDER_TOOLS
from handlers.vision.tools import TOOLS as VISION_TOOLS

TOOLS = CHAT_TOOLS + VISION_TOOLS + AUDIO_TOOLS + MODEL_TOOLS + MEDIA_GENERATION_TOOLS + PROVIDER_TOOLS
