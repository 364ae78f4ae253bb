"""The plugin: options, and a hook for each port that it uses."""

from __future__ import annotations

from dataclasses import replace

from PIL.Image import Image
from pydantic import Field

from sdcore import Access, Contributions, Options, Plugin, Run, hookimpl, ports
from sdcore.stages import Picture, Prompt

from .colour import warm


class Template(Options):
    """What a user writes: ``use=[Template(warmth=0.5)]``."""

    words: str = Field("", description="added to the prompt, after a comma")
    warmth: float = Field(0.5, ge=0, le=1, description="how warm the colours become; 0 leaves them")


class TemplatePlugin(Plugin):
    """Adds words to the prompt, and warms the finished picture."""

    name = "template"
    options = Template
    access = Access()

    @hookimpl
    def text(self, run: Run) -> Contributions:
        """Contribute to the port ``prompt``."""

        def add_words(prompt: Prompt) -> Prompt:
            words = [used.words for used in run.uses(Template) if used.words]
            return replace(prompt, positive=", ".join([prompt.positive, *words]))

        return ports.prompt(add_words)

    @hookimpl
    def decode(self, run: Run) -> Contributions:
        """Contribute to the port ``image``."""

        def warm_up(picture: Picture, image: Image) -> Image:
            for used in run.uses(Template):
                image = warm(image, used.warmth)
            return image

        return ports.image(warm_up, phase="restore")
