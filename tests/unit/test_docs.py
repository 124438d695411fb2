"""The documentation says what the code says: generated parts, links, error messages, pages that are served."""

from __future__ import annotations

import ast
import importlib.util
import re
from functools import cache
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote

import pytest

import settings
from handlers.resources.files import DOCUMENTS
from settings import env_file
from settings.tool_selection import FAMILIES, families_of

ROOT = Path(__file__).parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [ROOT / "README.md", *DOCS, ROOT / "SECURITY.md", *sorted((ROOT / "models").glob("*/README.md"))]
LINKED_PAGES = [*PAGES, ROOT / "llms.txt", ROOT / "CHANGELOG.md"]
README_MAX_LINES = 200
README_MAX_BYTES = 12_000
MIN_FRAGMENT_CHARACTERS = 6
"""Shorter fragments of an error message would be found anywhere."""


def shown(path: Path) -> str:
    """A path as a test's name shows it."""
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    """The script that writes the generated parts."""
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "scripts" / "generate_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# Generated parts


@pytest.mark.parametrize("page", [ROOT / "README.md", *DOCS], ids=shown)
def test_generated_parts_are_up_to_date(generator: ModuleType, page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert generator.with_generated_parts(text) == text, "run scripts/generate_docs.py"


def test_llms_txt_is_up_to_date(generator: ModuleType) -> None:
    text = (ROOT / "llms.txt").read_text(encoding="utf-8")
    assert generator.llms_txt(text) == text, "run scripts/generate_docs.py"


def test_every_generated_part_is_on_one_page(generator: ModuleType) -> None:
    texts = "".join(page.read_text(encoding="utf-8") for page in generator.pages())
    for name in generator.PARTS:
        assert texts.count(f"<!-- {name} -->") == 1, name
        assert texts.count(f"<!-- /{name} -->") == 1, name


def test_every_tool_has_a_heading_and_every_setting_a_row() -> None:
    tools = (ROOT / "docs" / "tools.md").read_text(encoding="utf-8")
    assert re.findall(r"^### `(\w+)`$", tools, re.MULTILINE) == [
        name for family, names in FAMILIES.items() for name in names if families_of(name)[0] == family
    ]
    rows = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert [row.variable for row in settings.rows() if f"\n| `{row.variable}` |" not in rows] == []


def test_example_of_an_env_file_is_up_to_date(generator: ModuleType) -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert generator.env_example() == example, "run scripts/generate_docs.py"


def test_example_of_an_env_file_has_every_setting_and_sets_none() -> None:
    example = (ROOT / ".env.example").read_text(encoding="utf-8")
    assert env_file.parsed(example) == {}
    named = {line[1:-1] for line in example.splitlines() if line.startswith("#") and line.endswith("=")}
    assert named == {row.variable for row in settings.rows()} - {"VLLM_ENV_FILE"}
    uncommented = "\n".join(line.removeprefix("#") if line[:2] != "# " else line for line in example.splitlines())
    assert set(env_file.parsed(uncommented)) == named


# Links


@cache
def without_code(path: Path) -> str:
    """A page's text without its code blocks and code spans."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", "`", text)


@cache
def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        found.add(next(name for n in range(100) if (name := slug if n == 0 else f"{slug}-{n}") not in found))
    return found


@pytest.mark.parametrize("page", LINKED_PAGES, ids=shown)
def test_relative_links_and_anchors_exist(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", without_code(page)):
        if re.match(r"[a-z]+:", link):
            continue
        target, _, anchor = unquote(link).partition("#")
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{shown(page)} links to {link}"
        assert path.is_relative_to(ROOT), link
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), f"{shown(page)} links to {link}"


@pytest.mark.parametrize("page", ["README.md", "llms.txt"])
def test_every_page_is_reached(page: str) -> None:
    links = re.findall(r"\]\((docs/[\w-]+\.md)\)", (ROOT / page).read_text(encoding="utf-8"))
    assert set(links) == {shown(path) for path in DOCS}


def test_every_page_is_a_resource() -> None:
    assert {document.path for document in DOCUMENTS} == {shown(path) for path in DOCS} | {
        "README.md",
        "examples/demo.png",
    }


# What is written by hand


def test_readme_is_short() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= README_MAX_LINES
    assert len(text.encode()) <= README_MAX_BYTES


@pytest.mark.parametrize("page", [ROOT / "README.md", *DOCS], ids=shown)
def test_settings_that_a_page_names_exist(page: Path) -> None:
    known = {row.variable for row in settings.rows()} | settings.NOT_LISTED
    others = {"VLLM_LOGGING_LEVEL", "VLLM_ENABLE_V1_MULTIPROCESSING"}  # vLLM's own
    named = set(re.findall(r"\b(?:VLLM|OMNI)_[A-Z0-9_]*[A-Z0-9]\b", page.read_text(encoding="utf-8")))
    assert named - known - others == set()


def walk_names() -> list[tuple[str, str]]:
    """The files and functions that the step-by-step walks of the architecture page name, each file with its names."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    steps = [line for line in text.splitlines() if re.match(r"\d+\. ", line)]
    found = []
    for step in steps:
        for file, names in re.findall(r"`([\w/]+\.py)`: ((?:`[\w.]+`(?:,| and)? ?)+)", step):
            found += [(file, name) for name in re.findall(r"`([\w.]+)`", names)]
    return found


@pytest.mark.parametrize(("file", "name"), walk_names())
def test_file_and_function_of_the_walks_exist(file: str, name: str) -> None:
    scope: list[ast.stmt] = ast.parse((ROOT / file).read_text(encoding="utf-8")).body
    for part in name.split("."):
        nodes = [node for node in scope if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)]
        (found,) = [node for node in nodes if node.name == part]
        scope = found.body


@cache
def source_strings() -> str:
    """All string constants of the source, with the constant parts of f-strings; adjacent literals are one."""
    strings: list[str] = []
    for folder in (
        "cli",
        "engine",
        "handlers",
        "http_client",
        "mcp_protocol",
        "media",
        "omni",
        "omni_cpu",
        "operating_system",
        "sandbox",
        "settings",
    ):
        for path in (ROOT / folder).rglob("*.py"):
            nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            strings += [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    return "\n".join(strings)


def messages() -> list[str]:
    """The error messages of the troubleshooting page."""
    text = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    table = text.partition("\n## Error messages\n")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    return [message for cell in cells for message in re.findall(r"`([^`]+)`", cell)]


@pytest.mark.parametrize("message", messages())
def test_error_message_of_the_troubleshooting_page_is_in_the_source(message: str) -> None:
    fragments = re.split(r"…|\.json|'|[:,.] |VLLM_|127\.0\.0\.1|6655|401", message)
    long_ones = [text for fragment in fragments if len(text := fragment.strip(" :,.?")) >= MIN_FRAGMENT_CHARACTERS]
    assert long_ones
    assert [fragment for fragment in long_ones if fragment not in source_strings()] == []
