"""A plugin for sdcore: copy this folder, rename it, and change the two stages."""

from .plugin import Template, TemplatePlugin

__all__ = ["Template", "TemplatePlugin"]
