"""Ten lines that change the picture."""

from PIL import ImageOps

from sdcore import Contributions, Plugin, Run, hookimpl, ports


class MirrorPlugin(Plugin):
    name = "mirror"

    @hookimpl
    def decode(self, run: Run) -> Contributions:
        return ports.image(lambda picture, image: ImageOps.mirror(image))
