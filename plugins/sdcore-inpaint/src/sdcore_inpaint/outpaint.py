"""The plugin ``outpaint``: the canvas grows, and what is new is drawn, in rounds."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from sdcore import Access, Change, Contributions, GenerateRequest, Plugin, Problem, Registry, Run, hookimpl, ports
from sdcore.stages import RunOutput

from .canvas import CANVAS, Canvas, outer_window, window_of
from .drawing import drawing_of
from .options import Outpaint

if TYPE_CHECKING:
    from PIL.Image import Image

    from .crop import Box

APART = 1_000_003
"""Added to the seeds from round to round, so that places of the same shape do not get the same noise."""
Next = Callable[[GenerateRequest], RunOutput]


class OutpaintPlugin(Plugin):
    """Makes the canvas of the request's picture larger and draws the new area, with any U-Net."""

    name = "outpaint"
    options = Outpaint
    access = Access(files=("read", "write"), when="writes: sdcore outpaint")

    @hookimpl
    def register(self, registry: Registry) -> None:
        """Add the command ``sdcore outpaint``."""
        from .commands import fill_outpaint

        registry.add("cli_command", "outpaint", fill_outpaint)

    @hookimpl
    def plan(self, run: Run) -> Iterable[Problem | Change]:
        """Look at the picture and the size that is asked for, and tell others the canvas."""
        if run.outer is not None:
            return []
        found = [Problem(text) for text in problems(run)]
        if found:
            return found
        _, _, width, height = run.uses(Outpaint)[0].box(*run.request.image.size)
        return [Change(canvas_size=(height, width))]

    @hookimpl
    def whole_run(self, run: Run) -> Contributions:
        """Contribute to the port ``whole_run``: the rounds."""
        options = run.uses(Outpaint)[0]
        return ports.whole_run(lambda request, call_next: outpaint(run, options, request, call_next), phase="canvas")

    @hookimpl
    def latents(self, run: Run) -> Contributions:
        """Contribute to the ports ``encode_image`` and ``initial_latents``."""
        return drawing_of(run, "soft", composite=True).latents()

    @hookimpl
    def step(self, run: Run) -> Contributions:
        """Contribute to the ports ``latents_out``, ``unet_input`` and ``preview``."""
        return drawing_of(run, "soft", composite=True).step()


def problems(run: Run) -> list[str]:
    """What is wrong with a request to outpaint."""
    from .placement import rounded
    from .problems import picture_problems

    uses = run.uses(Outpaint)
    if not uses:
        return ["it needs options: use=[Outpaint(left=64)] (--use outpaint:left=64)"]
    if len(uses) > 1:
        return [f"it is used {len(uses)} times; say all sides in one"]
    found = picture_problems(run, "canvas")
    if found:
        return found
    picture: Image = run.request.image
    try:
        _, _, wide, high = uses[0].box(*picture.size)
    except ValueError as error:
        return [str(error)]
    asked = run.request.width, run.request.height
    if asked != rounded(picture.size, run.model.vae_scale_factor):
        found.append(
            f"the request asks for {asked[0]}x{asked[1]}, but the size of the result is that of the canvas, {wide}x"
            f"{high}; leave the request's width and height out, and set outpaint's own"
        )
    if run.request.output == "latent":
        found.append("it pastes pictures together, and output is 'latent'; leave one of them out")
    return found


def outpaint(run: Run, options: Outpaint, request: GenerateRequest, call_next: Next) -> RunOutput:
    """The stage around the run: a window at a time, the canvas of every picture of the batch grows."""
    import numpy as np
    from PIL import Image

    from .placement import native_size
    from .rounds import windows

    picture: Image.Image = request.image
    left, top, wide, high = options.box(*picture.size)
    canvases = [Image.new("RGB", (wide, high)) for _ in run.seeds]
    for canvas in canvases:
        canvas.paste(picture, (left, top))
    known = np.zeros((high, wide), dtype=bool)
    inside = (left, top, left + picture.width, top + picture.height)
    known[inside[1] : inside[3], inside[0] : inside[2]] = True
    output: RunOutput | None = None
    for number, box in enumerate(windows(inside, (wide, high), native_size(run), options.round_limit)):
        run.check_cancelled()
        part = known[box[1] : box[3], box[0] : box[2]]
        if part.all():  # windows along one side may have drawn what lay in a corner
            continue
        output = _round(run, options, request, call_next, canvases, part, box, number)
        part[:] = True
    assert output is not None
    return output.replace(images=tuple(canvases))


def _round(
    run: Run,
    options: Outpaint,
    request: GenerateRequest,
    call_next: Next,
    canvases: list[Image],
    known: Any,
    box: Box,
    number: int,
) -> RunOutput:
    """One pass: what is not known in a window is drawn, and pasted into the canvases."""
    from PIL.Image import Resampling

    from .composite import cover, lay_over, match_colours
    from .fill import fill_picture
    from .placement import native_size
    from .rounds import working_size

    hole, mask = masks(known, options.overlap)
    parts = [fill_picture(canvas.crop(box), hole, options.fill) for canvas in canvases]
    window = outer_window(request.window, window_of(box, canvases[0].size))
    content = "original" if options.content == "fill" else options.content  # the parts are filled already
    width, height = working_size(parts[0].size, native_size(run), run.model.vae_scale_factor)
    run.state[CANVAS] = Canvas(tuple(parts), mask, window, "soft", content, options.fill)
    seeds = tuple((seed + number * APART) % 2**63 for seed in run.seeds)
    output = call_next(request.replace(image=parts[0], width=width, height=height, window=window, seeds=seeds))
    assert output.images is not None
    seen = cover(mask, False, options.feather)
    for canvas, part, drawn in zip(canvases, parts, output.images, strict=True):
        new = drawn if drawn.size == part.size else drawn.resize(part.size, Resampling.LANCZOS)
        if options.colour_match:
            new = match_colours(new, part, mask)
        canvas.paste(lay_over(part, new, seen), box[:2])
    return output


def masks(known: Any, overlap: int) -> tuple[Image, Image]:
    """What is to be filled, and what is to be redrawn, in a window: pictures of mode "L".

    Args:
        known: bool array (height, width).
        overlap: width of the band beside the unknown in which the mask falls from white to black.
    """
    import numpy as np
    from PIL import Image
    from scipy import ndimage

    hole = np.where(known, 0, 255).astype(np.uint8)
    distance = ndimage.distance_transform_edt(known)
    band = (255 * (1 - distance / (overlap + 1)).clip(0, 1)).round().astype(np.uint8)
    return Image.fromarray(hole), Image.fromarray(band)
