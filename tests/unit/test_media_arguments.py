"""No argument that names media is left out where hostile media are tried."""

from __future__ import annotations

from handlers.apps.tools import APP_TOOLS
from handlers.tool_table import TOOLS
from tests.e2e.media_arguments import NEEDED, media_arguments
from tests.fuzz.json_values import BY_NAME, LISTS_OF_PATHS


def test_every_argument_that_names_media_gets_hostile_files() -> None:
    assert set(NEEDED) == set(media_arguments((*TOOLS, *APP_TOOLS)))


def test_every_argument_that_names_media_gets_paths_and_urls_from_the_fuzzer() -> None:
    named = media_arguments((*TOOLS, *APP_TOOLS)).items()
    missing = {name for (_, name), is_list in named if name not in (LISTS_OF_PATHS if is_list else BY_NAME)}
    assert missing == set()
