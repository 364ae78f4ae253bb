"""A plugin for sdcore in one file: it gives pictures a warmer light.

    sdcore generate "a red apple" --plugin template.py --use template

`sdcore new template` makes a package of it.
"""

from __future__ import annotations

from PIL import Image
from pydantic import Field

from sdcore import Contributions, Options, Plugin, Run, hookimpl, ports
from sdcore.stages import Picture


class Template(Options):
    """What a user writes: ``--use template:warmth=0.8``."""

    warmth: float = Field(default=0.5, ge=0, le=1, description="how warm the light becomes; 0 leaves the colours alone")


class TemplatePlugin(Plugin):
    """Gives the finished picture a warmer light."""

    name = "template"
    options = Template

    @hookimpl
    def decode(self, run: Run) -> Contributions:
        """Add a stage to the port ``image``: it is called for each finished picture."""

        def warm_up(picture: Picture, image: Image.Image) -> Image.Image:
            for used in run.uses(Template):
                image = warm(image, used.warmth)
            return image

        return ports.image(warm_up, phase="restore")


def warm(image: Image.Image, amount: float) -> Image.Image:
    """An RGB picture in orange light; 0 leaves it as it is, 1 is strong."""
    red, green, blue = image.split()
    brighter = red.point([min(255, round(value * (1 + 0.2 * amount))) for value in range(256)])
    darker = blue.point([round(value * (1 - 0.4 * amount)) for value in range(256)])
    return Image.merge("RGB", (brighter, green, darker))
