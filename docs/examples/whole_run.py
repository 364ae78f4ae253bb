"""Draw small, enlarge, and draw again over the enlarged picture."""

from sdcore import Contributions, Plugin, Run, hookimpl, ports


class TwicePlugin(Plugin):
    name = "twice"

    @hookimpl
    def whole_run(self, run: Run) -> Contributions:
        def twice(request, call_next):
            first = call_next(request)
            if first.images is None:
                return first
            size = (request.width * 2, request.height * 2)
            image = first.images[0].resize(size)
            return call_next(request.replace(image=image, strength=0.5, height=size[1], width=size[0]))

        return ports.whole_run(twice)
