"""From options to controls: everything is checked first, then nets are loaded and control pictures made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sdcore import ImageError, ModelError, RequestError

from . import pictures, strength
from .describe import Description, Kind, describe
from .fits import misfit, residual_count
from .installed import find_net
from .options import INPAINT, ControlNet

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from sdcore import Run
    from sdcore.preprocessing import Preprocessor

    from .control import Control
    from .nets import NetCache


@dataclass(frozen=True)
class Prepared:
    """One use of the plugin, checked.

    Attributes:
        options: as the user gave them.
        description: of the net.
        image: the control picture as it was given; None if the input picture is used.
        mask, inpaint_mask: pictures, or None.
        preprocessor: and its options, or None.
    """

    options: ControlNet
    description: Description
    image: Image | None
    mask: Image | None = None
    inpaint_mask: Image | None = None
    preprocessor: Preprocessor | None = None
    preprocessor_options: Any = None


def prepare(run: Run) -> tuple[list[Prepared], list[str]]:
    """Check every use of the plugin, without loading a net: what can be used, and what is wrong."""
    found, problems = [], []
    for options in run.uses(ControlNet):
        try:
            checked = _check(run, options)
        except (RequestError, ModelError) as error:
            problems.append(str(error))
        else:
            if not options.silent:
                found.append(checked)
    return found, problems


def _check(run: Run, options: ControlNet) -> Prepared:
    unet: Any = run.model.unet.config
    factor, channels = run.model.vae_scale_factor, run.model.latent_channels
    source = options.model
    if isinstance(source, str):
        source = find_net(source)
    description = describe(source, unet, factor, options.allow_pickle)
    problem = misfit(description, unet, run.model.family, factor, channels)
    if problem:
        raise RequestError(problem)
    count = residual_count(description)
    if options.blocks is not None and len(options.blocks) != count:
        raise RequestError(
            f"blocks has {len(options.blocks)} factors, and {description.what} (a {description.kind}) has {count} "
            f"residuals; give {count}"
        )
    if options.image is None and own_image(run) is None:
        raise RequestError(
            "there is no control picture: image is not given, and the request has no input picture of which "
            f"preprocess {options.preprocess!r} could make it"
        )
    chosen, settings = _preprocessor(run, options)
    read = pictures.read_picture
    return Prepared(
        options,
        description,
        None if options.image is None else read(options.image, "image"),
        None if options.mask is None else read(options.mask, "mask"),
        None if options.inpaint_mask is None else read(options.inpaint_mask, "inpaint_mask"),
        chosen,
        settings,
    )


def _preprocessor(run: Run, options: ControlNet) -> tuple[Preprocessor | None, Any]:
    if options.preprocess in (None, INPAINT):
        return None, None
    from .preprocess import canonical
    from .preprocess.api import options_for

    known = run.registry.all("preprocessor")
    name = options.preprocess if options.preprocess in known else canonical(options.preprocess or "")
    chosen: Preprocessor = run.registry.get("preprocessor", name)
    if chosen.needs and "extra" in chosen.needs:
        raise RequestError(f"preprocessor {chosen.name!r} needs {chosen.needs}")
    return chosen, options_for(chosen, options.preprocess_options)


def own_image(run: Run) -> Image | None:
    """The input picture that this pass draws over; None if there is none, or only latents."""
    image = run.request.image
    if hasattr(image, "size") and hasattr(image, "mode"):
        return image  # type: ignore[no-any-return]
    return None if run.outer is None else own_image(run.outer)


def make_controls(run: Run, prepared: list[Prepared], nets: NetCache) -> list[tuple[Kind, Control]]:
    """Load nets and make control pictures; in an order that does not depend on that of ``use``.

    Raises:
        ImageError: a picture has another aspect than the canvas.
        ModelError: a net cannot be loaded.
    """
    from .control import Control

    made: list[tuple[Kind, Control]] = []
    canvas = run.canvas[1], run.canvas[0]
    for item in sorted(prepared, key=_rank):
        if run.outer is None:
            _check_aspects(item, canvas)
    for item in sorted(prepared, key=_rank):
        options, config = item.options, item.description.config
        net = nets.get(item.description, run.device, run.dtype, len(prepared))
        image = pictures.placed(_control_picture(run, item, canvas), run.device, run.dtype)
        mask = None
        if item.mask is not None:
            mask = pictures.mask_to_tensor(_part(run, pictures.fit(item.mask, canvas, options.resize)), _size(run))
            mask = pictures.placed(mask, run.device, run.dtype)
        adapter = item.description.kind == "T2I-Adapter"
        pooled = not adapter and bool(config.get("global_pool_conditions", False))
        # diffusers leaves out the falling factors of the guess mode where conditions are pooled.
        mode = "balanced" if pooled and options.mode == "control" else options.mode
        factors = strength.factors(residual_count(item.description), options.scale, mode, options.blocks, adapter)
        made.append((item.description.kind, Control(options, net, image, mask, factors, pooled)))
    return made


def _rank(item: Prepared) -> str:
    """Sums are made in this order, so that the order in ``use`` changes not even their rounding."""
    from sdcore.images import image_sha256

    told = item.options.model_dump_json(
        exclude={"model", "image", "mask", "inpaint_mask"}, fallback=lambda value: type(value).__name__
    )
    shown = [image_sha256(picture) for picture in (item.image, item.mask, item.inpaint_mask) if picture is not None]
    return "|".join([item.description.kind, item.description.what, told, *shown])


def _check_aspects(item: Prepared, canvas: pictures.Size) -> None:
    named = {"image": item.image, "mask": item.mask, "inpaint_mask": item.inpaint_mask}
    for name, picture in named.items():
        if picture is not None:
            problem = pictures.aspect_problem(picture.size, canvas, item.options.resize, name)
            if problem:
                raise ImageError(problem)


def _control_picture(run: Run, item: Prepared, canvas: pictures.Size) -> Tensor:
    """The control picture of the pass as a tensor, preprocessed and cut to the pass's window."""
    options, size = item.options, _size(run)
    config = item.description.config
    channels = int(config.get("conditioning_channels" if item.description.kind == "ControlNet" else "in_channels", 3))
    window = run.request.window
    if item.image is not None:
        whole = pictures.fit(item.image, canvas, options.resize)
    else:
        own = own_image(run)
        assert own is not None
        whole = own
        if own is run.request.image:  # it is what the pass draws over already, not the whole
            window = None
    if item.preprocessor is not None:
        from PIL import Image as pillow

        wide = pictures.working_size(whole.size, size, window)
        if whole.size != wide:
            whole = whole.resize(wide, resample=pillow.Resampling.LANCZOS)
        whole = item.preprocessor.run(whole, item.preprocessor_options)
    from sdcore.images import cut_window

    tensor = pictures.to_tensor(cut_window(whole, window), size, channels)
    if item.inpaint_mask is not None:
        mask = pictures.mask_to_tensor(_part(run, pictures.fit(item.inpaint_mask, canvas, options.resize)), size)
        tensor = pictures.inpaint_condition(tensor, mask)
    return tensor


def _part(run: Run, whole: Image) -> Image:
    from sdcore.images import cut_window

    return cut_window(whole, run.request.window)


def _size(run: Run) -> pictures.Size:
    return run.width, run.height
