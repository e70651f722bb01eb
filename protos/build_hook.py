"""Puts the generated stubs into every build: wheel, editable install and sdist."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class StubsBuildHook(BuildHookInterface[Any]):
    """Generates the stubs before anything is packed, by the code of `make stubs`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Generate beside the protos; they are git-ignored, so hatchling is told of them."""
        sys.path.insert(0, str(Path(self.root, "protos")))
        try:
            from generate import generate
        finally:
            sys.path.pop(0)
        generate()
        build_data["artifacts"].append("/protos/aicc/**/*_pb2*.py*")
