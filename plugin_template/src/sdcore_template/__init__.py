"""A plugin for sdcore: options that a user writes, and a hook for each port that it adds to."""

from __future__ import annotations

from PIL.Image import Image
from pydantic import Field
from sdcore import Access, Contributions, Options, Plugin, Run, hookimpl, ports
from sdcore.stages import Picture, Prompt

from .effect import warm

__all__ = ["Template", "TemplatePlugin"]


class Template(Options):
    """What a user writes: ``use=[Template(warmth=0.8)]``."""

    warmth: float = Field(default=0.5, ge=0, le=1, description="how warm the light becomes; 0 leaves the colours alone")
    words: str = Field(default="", description="added to the prompt, after a comma")


class TemplatePlugin(Plugin):
    """Adds words to the prompt, and gives the finished picture a warmer light."""

    # One instance lives as long as its engine and serves many runs: what belongs to one run goes into `run.state`.
    name = "template"
    options = Template
    access = Access()  # what it touches beyond the run: no files, no network

    @hookimpl
    def text(self, run: Run) -> Contributions:
        """Add a stage to the port ``prompt``: it is called once, before the prompt is encoded."""

        def add_words(prompt: Prompt) -> Prompt:
            words = [used.words for used in run.uses(Template) if used.words]
            return prompt.replace(positive=", ".join([prompt.positive, *words]))

        return ports.prompt(add_words)

    @hookimpl
    def decode(self, run: Run) -> Contributions:
        """Add a stage to the port ``image``: it is called for each finished picture."""

        def warm_up(picture: Picture, image: Image) -> Image:
            for used in run.uses(Template):  # a request may use a plugin more than once
                image = warm(image, used.warmth)
            return image

        # The phase puts it before safety checks and watermarks, whatever the order in `use`.
        return ports.image(warm_up, phase="restore")
