"""The Dockerfile, the Compose files and the configurations of nginx and systemd say what the code does, and keep what
they promise."""

from __future__ import annotations

import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from settings import COMMAND, rows
from tests.containers import ROOT, Context, Unset, built_from, compose, interpolated, stages
from tests.nginx import nginx_program

VARIABLES = {row.variable for row in rows()}
OF_OTHERS = {"HF_HOME"}
"""What Hugging Face's library reads."""
TOKENS = {"VLLM_HTTP_TOKENS": "sesame"}
COMPOSE = ("docker-compose.yml", "docker-compose.gpu.yml")


# Dockerfile


def test_last_stage_is_the_server() -> None:
    assert list(stages())[-1] == "server"


@pytest.mark.parametrize("name", ["server", "omni"])
def test_image_runs_without_root_as_a_user_that_owns_its_volumes(name: str) -> None:
    base, stage = built_from(name)
    user = stage.last("USER").text
    made = base.last("RUN").text
    assert f"useradd --uid {user} " in made
    assert int(user) > 0
    for volume in stage.last("VOLUME").words:
        assert re.search(rf"chown vllm: .*{volume}\b", made)
    assert [instruction.name for instruction in stage.instructions].index("USER") > 0


def test_image_starts_the_server_over_http_and_looks_at_its_health() -> None:
    stage = stages()["server"]
    command = [*stage.last("ENTRYPOINT").words, *stage.last("CMD").words]
    assert command == ["/app/scripts/start.sh", "--transport", "http", "--host", "0.0.0.0", "--port", "8080"]
    assert stage.last("EXPOSE").text == command[-1]
    health = stage.last("HEALTHCHECK").text
    assert health.endswith('CMD ["/app/.venv/bin/python", "-I", "/app/deploy/health.py", "8080"]')
    assert "curl" not in (ROOT / "Dockerfile").read_text()


def test_light_image_runs_the_installed_package_without_root_over_stdin() -> None:
    stage, wheel = stages()["light"], stages()["wheel"]
    assert (stage.base, stage.last("ENTRYPOINT").words, stage.all("CMD")) == (wheel.base, [COMMAND], [])
    assert stage.last("USER").text == stages()["server"].last("USER").text
    made, installed = stage.all("RUN")
    assert "useradd --uid 10001 " in made.text
    assert all(f"chown vllm: {volume}" in made.text for volume in stage.last("VOLUME").words)
    assert installed.flags["mount"] == "type=bind,from=wheel,source=/wheels,target=/wheels"
    (extra,) = re.findall(r"^pip wheel .* \"\.\[(\w+)\]\"$", wheel.last("RUN").text)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert extra in project["optional-dependencies"]


def test_image_for_cpus_is_the_default_and_one_argument_makes_it_for_gpus() -> None:
    arguments = [instruction.text for stage in stages().values() for instruction in stage.all("ARG")]
    assert set(arguments) == {"KIND=cpu"}
    assert compose("docker-compose.gpu.yml", {})["services"]["server"]["build"]["args"] == {"KIND": "gpu"}


def test_what_is_copied_is_there_and_in_the_context() -> None:
    context = Context()
    for stage in stages().values():
        for instruction in stage.all("COPY"):
            if "from" in instruction.flags:
                assert instruction.flags["from"] in stages()
                continue
            for source in instruction.words[:-1]:
                if source != ".":
                    assert (ROOT / source).is_file(), source
                    assert context.has(source), source


def test_variables_of_the_image_are_settings() -> None:
    for stage in stages().values():
        for instruction in stage.all("ENV"):
            assert {pair.partition("=")[0] for pair in instruction.words} <= VARIABLES | OF_OTHERS


# .dockerignore


@pytest.mark.parametrize(
    ("path", "is_in"),
    [
        ("vllm_server.py", True),
        ("requirements-cpu.txt", True),
        ("pyproject.toml", True),
        ("server.json", False),
        ("release/bundle.py", False),
        ("README.md", True),
        ("docs/tools.md", True),
        ("examples/demo.png", True),
        ("mcp_protocol/server.py", True),
        ("scripts/start.sh", True),
        ("deploy/health.py", True),
        ("models/demo-vlm/model.safetensors", True),
        ("models/demo-image/vae/config.json", True),
        ("models/demo-vlm/train.py", False),
        ("models/demo-vlm/checkpoints/1.pt", False),
        ("engine/__pycache__/local.cpython-311.pyc", False),
        (".env", False),
        (".env.example", False),
        ("secrets.json", False),
        ("config.local.json", False),
        (".git/config", False),
        (".venv/bin/python", False),
        ("tests/conftest.py", False),
        ("generated_images/a.png", False),
    ],
)
def test_context_has_what_runs_and_nothing_secret(path: str, is_in: bool) -> None:
    assert Context().has(path) is is_in


def test_context_has_every_room_of_the_server() -> None:
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks", "release"}
    context = Context()
    assert [room for room in sorted(rooms) if not context.has(f"{room}/__init__.py")] == []


# Compose


@pytest.mark.parametrize("name", COMPOSE)
def test_compose_file_names_settings_and_folders_that_there_are(name: str) -> None:
    for service in compose(name, TOKENS)["services"].values():
        assert set(service.get("environment", {})) <= VARIABLES
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            assert source in ("models", "data") or (ROOT / source).is_file(), volume
        target = service.get("build", {}).get("target")
        assert target is None or target in stages()


def test_compose_without_a_token_says_what_to_do() -> None:
    with pytest.raises(Unset, match=r"Put VLLM_HTTP_TOKENS=SECRET into \.env"):
        compose("docker-compose.yml", {})


def test_nothing_is_open_to_others_by_default() -> None:
    services = compose("docker-compose.yml", TOKENS)["services"]
    assert services["server"]["ports"] == ["127.0.0.1:8080:8080"]
    assert "ports" not in services["omni"]
    assert services["proxy"]["ports"] == ["127.0.0.1:8081:8081"]
    opened = compose("docker-compose.yml", {**TOKENS, "PUBLISH_PROXY": "0.0.0.0:8081"})["services"]
    assert opened["proxy"]["ports"] == ["0.0.0.0:8081:8081"]


def test_profiles_add_to_the_server() -> None:
    services = compose("docker-compose.yml", TOKENS)["services"]
    profiles = {name: service.get("profiles") for name, service in services.items()}
    assert profiles == {"server": None, "omni": ["images"], "proxy": ["proxy"]}
    port = stages()["omni"].last("EXPOSE").text
    assert services["server"]["environment"]["OMNI_URL"] == f"http://omni:{port}"


@pytest.mark.parametrize("name", ["server", "omni", "proxy"])
def test_services_have_no_more_rights_than_they_need(name: str) -> None:
    service = compose("docker-compose.yml", TOKENS)["services"][name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


def test_variables_are_filled_in_as_compose_does() -> None:
    assert interpolated("${A:-1} ${B:-2} ${C}", {"A": "x", "B": ""}) == "x 2 "


# nginx


def test_nginx_passes_events_on_at_once_and_waits_for_long_answers() -> None:
    text = (ROOT / "deploy" / "nginx.conf").read_text()
    for directive in (
        "proxy_buffering off;",
        "proxy_http_version 1.1;",
        "proxy_read_timeout 1h;",
        "client_max_body_size 64m;",
        "set $upstream http://server:8080;",
        "location ^~ /metrics {",
    ):
        assert directive in text, directive
    assert compose("docker-compose.yml", TOKENS)["services"]["proxy"]["ports"][0].endswith(":8081")
    assert "listen 8081;" in text


def test_nginx_takes_its_configuration(tmp_path: Path) -> None:
    text = (ROOT / "deploy" / "nginx.conf").read_text().replace("/tmp/", f"{tmp_path}/")
    (tmp_path / "nginx.conf").write_text(text)
    tried = subprocess.run(
        [nginx_program(), "-t", "-p", tmp_path, "-e", "stderr", "-c", tmp_path / "nginx.conf"],
        capture_output=True,
        text=True,
    )
    assert tried.returncode == 0, tried.stderr


# systemd


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "vllm-mcp-server.service"
    unit.write_text((ROOT / "deploy" / unit.name).read_text().replace("/opt/vllm-mcp-server", str(ROOT)))
    if shutil.which("systemd-analyze") is None:
        pytest.skip("this machine has no systemd")
    tried = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert tried.returncode == 0, tried.stderr
    assert str(unit) not in tried.stderr


def test_variables_of_the_unit_are_settings() -> None:
    text = (ROOT / "deploy" / "vllm-mcp-server.service").read_text()
    names = set(re.findall(r"^Environment=([A-Z_]+)=", text, re.MULTILINE))
    assert names <= VARIABLES | {"HOME"}
