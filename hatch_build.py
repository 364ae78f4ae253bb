"""Puts the plugin template into the wheel, where ``sdcore new`` finds it; a checkout has it beside the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class TemplateHook(BuildHookInterface[Any]):
    """Adds ``plugin_template/`` as ``sdcore/_template/``, without what tools left in it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Name the files; an editable install needs none of them."""
        if version == "editable":
            return
        template = Path(self.root) / "plugin_template"
        for path in sorted(template.rglob("*")):
            parts = path.relative_to(template).parts
            hidden = [part for part in parts if part.startswith(".") and part != ".github"]
            if path.is_file() and not hidden and not {"__pycache__", "build", "dist"} & set(parts):
                build_data["force_include"][str(path)] = "/".join(("sdcore", "_template", *parts))
