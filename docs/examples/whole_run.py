"""Draw small, enlarge the latents, and draw again over them (hires-fix)."""

from torch.nn.functional import interpolate

from sdcore import Contributions, Plugin, Run, hookimpl, ports


class TwicePlugin(Plugin):
    name = "twice"

    @hookimpl
    def whole_run(self, run: Run) -> Contributions:
        def twice(request, call_next):
            small = call_next(request)
            larger = interpolate(small.latents, scale_factor=2, mode="bilinear")  # one for each picture of the run
            size = {"height": request.height * 2, "width": request.width * 2}
            return call_next(request.replace(image=larger, strength=0.6, **size))

        return ports.whole_run(twice)
