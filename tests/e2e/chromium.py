"""A headless Chromium from a package of npm, pinned like all others: no other source of browsers is needed.

The package is made for functions in the cloud: a compressed program with the libraries and a font that a bare Linux
lacks. It plays H.264 and AAC. It is unpacked once and kept in `.cache/environments`.
"""

from __future__ import annotations

import io
import platform
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.e2e.environments import ENVIRONMENTS, locked
from tests.e2e.node_environments import NODE_PINS, NodeEnvironment

PACKAGE = "@sparticuz/chromium"
UNPACK = """
const fs = require("node:fs"), { brotliDecompressSync } = require("node:zlib");
const [from, to] = process.argv.slice(1);
for (const name of ["chromium", "al2023.tar", "fonts.tar"])
  fs.writeFileSync(`${to}/${name}`, brotliDecompressSync(fs.readFileSync(`${from}/${name}.br`)));
"""
FONTS = """<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "fonts.dtd">
<fontconfig><dir>{folder}/fonts</dir><cachedir>{folder}/fonts-cache</cachedir></fontconfig>
"""
UNPACK_S = 120


def chromium_folder(environment: NodeEnvironment) -> Path:
    """The folder with the program `chromium`, its libraries in `lib` and its font, from an environment of npm.

    Skips the calling test where the package has no program for this machine.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        pytest.skip("this machine is no Linux on x86-64, for which the pinned Chromium is made")
    folder = ENVIRONMENTS / "chromium"
    done = folder / "environment.done"
    (wanted,) = [package for package in NODE_PINS["apps"].packages if package.startswith(PACKAGE)]
    wanted = f"{wanted}\n{folder}"
    with locked("chromium"):
        if not (done.exists() and done.read_text() == wanted):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            packed = environment.modules / PACKAGE / "bin"
            command = [str(environment.node), "-e", UNPACK, str(packed), str(folder)]
            subprocess.run(command, check=True, timeout=UNPACK_S, stdin=subprocess.DEVNULL)
            for name in ("al2023.tar", "fonts.tar"):
                archive = folder / name
                with tarfile.open(fileobj=io.BytesIO(archive.read_bytes())) as members:
                    members.extractall(folder, filter="data")
                archive.unlink()
            (folder / "chromium").chmod(0o755)
            (folder / "fonts.conf").write_text(FONTS.format(folder=folder))
            done.write_text(wanted)
    return folder
