"""The plugin ``inpaint``: what a mask marks is redrawn."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from sdcore import (
    Access,
    Change,
    Contributions,
    GenerateRequest,
    ImageError,
    Plugin,
    Problem,
    Registry,
    Run,
    StateKey,
    hookimpl,
    ports,
)
from sdcore.stages import RunOutput

from .canvas import CANVAS, Canvas, outer_window, window_of
from .drawing import drawing_of
from .options import Inpaint
from .placement import Placement, place, rounded

if TYPE_CHECKING:
    from PIL.Image import Image

MASK: StateKey[Any] = StateKey("inpaint mask")


class InpaintPlugin(Plugin):
    """Redraws what a mask marks in the request's picture, with ordinary U-Nets and those made for inpainting."""

    name = "inpaint"
    options = Inpaint
    access = Access(files=("read", "write"), when="writes: sdcore inpaint")

    @hookimpl
    def register(self, registry: Registry) -> None:
        """Add the command ``sdcore inpaint``."""
        from .commands import fill_inpaint

        registry.add("cli_command", "inpaint", fill_inpaint)

    @hookimpl
    def plan(self, run: Run) -> Iterable[Problem | Change]:
        """Look at the mask and the picture, and tell others the size of what leaves, where it is not the run's."""
        if run.outer is not None:
            return ()
        from .problems import problems

        try:
            found = problems(run, lambda options: mask_of(run, options))
        except ImageError as error:
            found = [str(error)]
        return [Problem(text) for text in found] or result_size(run)

    @hookimpl
    def whole_run(self, run: Run) -> Contributions:
        """Contribute to the port ``whole_run``: cut out, and put the kept pixels back."""
        options = options_of(run)

        def around(request: GenerateRequest, call_next: Callable[[GenerateRequest], RunOutput]) -> RunOutput:
            return inpaint(run, options, request, call_next)

        return ports.whole_run(around, phase="canvas")

    @hookimpl
    def latents(self, run: Run) -> Contributions:
        """Contribute to the ports ``encode_image`` and ``initial_latents``."""
        options = options_of(run)
        return drawing_of(run, options.softness, options.composite).latents()

    @hookimpl
    def step(self, run: Run) -> Contributions:
        """Contribute to the ports ``latents_out``, ``unet_input`` and ``preview``."""
        options = options_of(run)
        return drawing_of(run, options.softness, options.composite).step()


def result_size(run: Run) -> list[Change]:
    """A change of ``canvas_size``, to which masks and control pictures of other plugins belong."""
    width, height = run.request.image.size
    drawn = run.width, run.height
    own = options_of(run).only_masked or drawn == rounded((width, height), run.model.vae_scale_factor)
    return [Change(canvas_size=(height, width))] if own and drawn != (width, height) else []


def options_of(run: Run) -> Inpaint:
    """The options; ``plan`` has refused a request that has them twice."""
    return run.uses(Inpaint)[0]


def mask_of(run: Run, options: Inpaint) -> Image:
    """The mask, read and edited, mode "L"; read once a run.

    Raises:
        ImageError: it cannot be used.
    """
    from .mask_edit import edit_mask
    from .mask_source import read_mask

    def read() -> Image:
        mask: Image = read_mask(options.mask, run.request.image.size)
        return edit_mask(
            mask, invert=options.invert, grow=options.grow, shrink=options.shrink, blur=options.blur
        )  # fmt: skip

    mask: Image = run.state.make(MASK, read)
    return mask


def inpaint(
    run: Run, options: Inpaint, request: GenerateRequest, call_next: Callable[[GenerateRequest], RunOutput]
) -> RunOutput:
    """The stage around the run: the canvas is laid out, passes draw on it, the kept pixels are put back."""
    from sdcore.images import cut_window

    from .composite import cover

    picture: Image = request.image
    mask = cut_window(mask_of(run, options), request.window)
    if mask.size != picture.size:  # a stage outside has cut and scaled what is drawn
        mask = mask.resize(picture.size)
    placed = place(run, request, picture.size, mask, only_masked=options.only_masked, padding=options.padding)
    inner, window = request, request.window
    pictures = (placed.inwards(picture),)
    if placed.box is not None:
        window = outer_window(window, window_of(placed.box, picture.size))
        width, height = placed.working
        inner = request.replace(image=pictures[0], width=width, height=height, window=window)
    drawn_on = placed.inwards(mask)
    canvas = Canvas(pictures, drawn_on, window, options.softness, options.content, options.fill)
    run.state[CANVAS] = canvas
    output = call_next(inner)
    if output.images is None:
        return output
    seen = cover(mask, canvas.hard, options.feather)
    done = [_finished(new, picture, mask, seen, placed, options) for new in output.images]
    return output.replace(images=tuple(done))


def _finished(new: Image, picture: Image, mask: Image, seen: Image, placed: Placement, options: Inpaint) -> Image:
    """A drawn picture over the input, at the size that the result has."""
    from PIL.Image import Resampling

    from .composite import lay_over, match_colours

    new, whole = placed.outwards(new, picture)
    size = new.size
    if size != picture.size:  # a larger or smaller result was asked for
        picture, mask, seen = (part.resize(size, Resampling.LANCZOS) for part in (picture, mask, seen))
    if options.colour_match:
        new = match_colours(new, picture, mask)
    if whole and not options.composite:
        return new
    return lay_over(picture, new, seen)
