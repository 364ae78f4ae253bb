"""The average colour of every picture, in its record."""

from PIL import Image

from sdcore import Contributions, Plugin, Run, StateKey, hookimpl, ports

COLOURS: StateKey[dict[int, list[int]]] = StateKey()


class ColourPlugin(Plugin):
    name = "colour"

    @hookimpl
    def decode(self, run: Run) -> Contributions:
        run.state[COLOURS] = {}

        def measure(picture, image: Image.Image) -> None:
            run.state[COLOURS][picture.index] = list(image.resize((1, 1)).getpixel((0, 0)))

        return ports.image(measure, phase="watermark")

    @hookimpl
    def output(self, run: Run) -> Contributions:
        return ports.metadata(lambda picture: {"rgb": run.state[COLOURS][picture.index]})
