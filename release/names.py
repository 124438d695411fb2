"""The names under which a release is published, and the settings that its users are asked for."""

from __future__ import annotations

from dataclasses import dataclass

from settings import COMMAND, SERVER_NAME, SERVER_TITLE

OWNER = "OWNER"
"""The GitHub account of the repository, in its own spelling.

This is a placeholder: set it before the first release, run `python -m release.metadata`, and commit what that changes.
"""
PLACEHOLDER = "OWNER"
REPOSITORY_URL = f"https://github.com/{OWNER}/{SERVER_NAME}"
REGISTRY_NAME = f"io.github.{OWNER}/{COMMAND}"
"""The name in the MCP registry, which lets only that account use it."""
AUTHOR = "The vLLM MCP server authors"
LICENSE = "MIT"
KEYWORDS = ["vllm", "vision", "llm", "images", "video", "speech"]
PLUGIN = "vllm"
"""The name of the plugin, of its marketplace, and of the server in its configuration."""
TITLE = SERVER_TITLE
DESCRIPTION = "Chat with vision models in vLLM, here or on your servers; images, video and speech by vLLM-Omni."
"""At most 100 characters: the registry refuses a longer one."""


@dataclass(frozen=True)
class Field:
    """A setting that a host asks its user for.

    Arguments:
        variable: the setting.
        title: its label in a form.
        description: what to enter.
        example: shown in an empty field.
        is_secret: whether the host must hide it.
        is_folder: whether it is a folder's path.
    """

    variable: str
    title: str
    description: str
    example: str = ""
    is_secret: bool = False
    is_folder: bool = False

    @property
    def key(self) -> str:
        """Its name in a manifest."""
        return self.variable.lower()


FIELDS = (
    Field(
        "VLLM_BASE_URL",
        "vLLM server",
        "Address of a vLLM or other OpenAI-compatible server that runs the model.",
        "http://gpu-host:8000/v1",
    ),
    Field("VLLM_REMOTE_API_KEY", "Key of the vLLM server", "Only if that server requires one.", is_secret=True),
    Field("VLLM_MODEL_NAME", "Model", "The model's name on that server. Empty: its first model."),
    Field(
        "OMNI_URL",
        "vLLM-Omni server",
        "Address of the server that generates images and video. Empty: http://localhost:6655.",
        "http://gpu-host:6655",
    ),
    Field(
        "OMNI_OUTPUT_DIR",
        "Folder for generated files",
        "Where images and videos are saved. Empty: the folder generated_images.",
        is_folder=True,
    ),
    Field("OPENAI_API_KEY", "OpenAI key", "Offers the models of OpenAI.", is_secret=True),
    Field("DASHSCOPE_API_KEY", "DashScope key", "Offers the models of DashScope.", is_secret=True),
)
