"""The stages inside a pass: where the loop starts, what the U-Net is told, what is kept after every step.

Random numbers are drawn in the order of diffusers' inpainting pipelines: the picture's encoding (if there is one),
the noise, the masked picture's encoding.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING

from sdcore import Contribution, Run, StateKey, Step, ports
from sdcore.stages import ImageArgs, InitialLatents, UNetInput

from . import mask_latent
from .canvas import Canvas, canvas_of

if TYPE_CHECKING:
    from torch import Tensor

MASKED = "masked image"
"""The purpose with which the masked picture is encoded."""


class Drawing:
    """One pass. Made by the hooks, filled by the stages.

    Args:
        run: the pass.
        softness: of the mask.
        composite: whether the kept pixels are put back at the end, so that previews may show them.
    """

    def __init__(self, run: Run, softness: str, composite: bool) -> None:
        self._run = run
        self._told = run.model.task == "inpaint"
        self._blends = not self._told or softness != "hard"
        self._composite = composite
        self._samples = False
        self._image: Tensor | None = None
        self._noise: Tensor | None = None
        self._masked: Tensor | None = None
        self._channels: dict[int, Tensor] = {}

    def latents(self) -> list[Contribution]:
        """Contributions to the hook ``latents``."""
        return [ports.encode_image(self.encode), ports.initial_latents(self.start)]

    def step(self) -> list[Contribution]:
        """Contributions to the hook ``step``."""
        found = [ports.latents_out(self.keep)] if self._blends else []
        if self._told:
            found.append(ports.unet_input(self.tell))
        if self._blends or self._composite:
            found.append(ports.preview(self.show))
        return found

    # -- what there is to draw on -----------------------------------------------------------------------

    @cached_property
    def _canvas(self) -> Canvas:
        return canvas_of(self._run)

    @cached_property
    def _begins(self) -> bool:
        """Whether this pass starts from the canvas; else another made something of it before (hires-fix)."""
        given, own = self._run.request.image, self._canvas.picture(0)
        if given is own:
            return True
        return hasattr(given, "tobytes") and given.size == own.size and given.tobytes() == own.tobytes()

    @property
    def _from_noise(self) -> bool:
        """Whether the loop starts from noise alone."""
        request = self._run.request
        return request.strength == 1.0 and request.denoising_start is None and self._canvas.softness != "differential"

    @cached_property
    def _pixel_mask(self) -> Tensor:
        """(1, 1, height, width), as the user drew it."""
        return mask_latent.mask_to_tensor(self._canvas.mask, self._run.height, self._run.width)

    @cached_property
    def _told_mask(self) -> Tensor:
        """(1, 1, height, width), 1 where the picture is hidden from a U-Net for inpainting."""
        return mask_latent.binary(self._pixel_mask) if self._canvas.hard else mask_latent.any_grey(self._pixel_mask)

    @property
    def _size(self) -> tuple[int, int]:
        factor = self._run.model.vae_scale_factor
        return self._run.height // factor, self._run.width // factor

    @cached_property
    def _latent_mask(self) -> Tensor:
        """(1, 1, h, w) in [0, 1] at the places of latents."""
        if self._canvas.hard:
            mask = mask_latent.nearest(self._told_mask, *self._size)
        else:
            mask = mask_latent.averaged(self._pixel_mask, *self._size)
        return mask.to(self._run.device, self._run.dtype)

    @cached_property
    def _starts(self) -> Tensor:
        """For a differential mask: the scheduler's timestep, counted from its first, from which on a place is free."""
        schedule = self._run.schedule
        mask = mask_latent.averaged(self._pixel_mask, *self._size).to(self._run.device)
        return mask_latent.first_steps(mask, schedule.steps) * schedule.order

    @cached_property
    def _skipped(self) -> int:
        """How many of the scheduler's timesteps lie before the first that this run visits."""
        every, visited = self._run.schedule.scheduler.timesteps.tolist(), list(self._run.schedule.timesteps)
        places = range(len(every) - len(visited), -1, -1)
        return next((place for place in places if every[place : place + len(visited)] == visited), 0)

    def _mask_at(self, index: int) -> Tensor:
        """The mask by which drawn and kept latents are blended after the visited step ``index``; -1: before any."""
        if self._canvas.softness == "differential":
            return (self._starts <= self._skipped + index).to(self._run.dtype)
        return self._latent_mask

    def _pixels(self, index: int) -> Tensor:
        from sdcore.images import image_to_tensor

        run = self._run
        return image_to_tensor(
            self._canvas.picture(index), run.height, run.width, device=run.device, dtype=run.dtype
        )  # fmt: skip

    # -- before the loop --------------------------------------------------------------------------------

    def encode(self, args: ImageArgs, call_next: Callable[[ImageArgs], Tensor]) -> Tensor:
        """At the port ``encode_image``: a picture of its own for each place of the batch, and the fill."""
        if args.purpose != "image" or not self._begins:
            return call_next(args)
        if not self._blends and self._from_noise:  # nobody will look at it: nothing is computed, no number drawn
            return args.pixels.new_zeros(1, self._run.model.latent_channels, *self._size)
        pixels = self._pixels(args.index) if len(self._canvas.pictures) > 1 else args.pixels
        if self._canvas.content == "fill":
            pixels = self._filled(args.index, pixels)
        before = args.generator.get_state()
        latents = call_next(args.replace(pixels=pixels))
        self._samples = bool((args.generator.get_state() != before).any())
        return latents

    def _filled(self, index: int, pixels: Tensor) -> Tensor:
        from PIL import Image

        from sdcore.images import image_to_tensor, tensors_to_images

        from .fill import fill_picture

        # Grey keeps its share of the picture, for it is blended back towards these latents in every step.
        hole = (self._told_mask if self._canvas.hard else self._pixel_mask).to(pixels)
        marked = Image.fromarray((self._told_mask[0, 0].numpy() * 255).astype("uint8"))
        picture = fill_picture(tensors_to_images(pixels)[0], marked, self._canvas.fill)
        filled = image_to_tensor(picture, *pixels.shape[-2:], device=pixels.device, dtype=pixels.dtype)
        return hole * filled + (1 - hole) * pixels

    def start(self, initial: InitialLatents) -> InitialLatents:
        """At the port ``initial_latents``: latents to start from, and what the steps will need."""
        import torch

        run, image, noise, latents = self._run, initial.image, initial.noise, initial.latents
        places = range(len(run.seeds))
        if not self._begins:  # the kept part is the canvas', not what an earlier pass made of it
            image = torch.cat([initial.encode(self._pixels(index), index, "image") for index in places])
        if noise is None:
            noise = self._random(latents)
        if self._told:
            seen = (self._told_mask < 0.5).to(run.device)
            masked = [initial.encode(self._pixels(index) * seen, index, MASKED) for index in places]
            self._masked = torch.cat(masked).to(run.device, run.dtype)
        elif self._samples:
            self._random(latents)  # diffusers encodes the masked picture for every U-Net, and draws for it
        if self._begins and image is not None and self._canvas.content in ("noise", "nothing"):
            image, latents = self._emptied(initial, image, noise)
        # Convolutions round by the memory format, which blended latents inherit; diffusers' are contiguous here.
        image, latents = None if image is None else image.contiguous(), latents.contiguous()
        self._image, self._noise = image, noise
        if self._from_noise:
            latents = run.schedule.pure_noise(noise)
        elif not self._begins and run.request.denoising_start is not None and self._blends:
            # Handed over in the middle: what is kept must be as noisy as the rest, whatever was handed over.
            assert image is not None
            latents = mask_latent.blend(run.schedule.add_noise(image, noise), latents, self._mask_at(-1))
        return initial.replace(latents=latents.to(run.dtype), noise=noise, image=image)

    def _random(self, like: Tensor) -> Tensor:
        """Normal numbers from the pictures' generators."""
        import torch

        run = self._run
        shape = (1, *like.shape[1:])
        drawn = [torch.randn(shape, generator=generator, dtype=run.dtype) for generator in run.generators]
        return torch.cat(drawn).to(run.device)

    def _emptied(self, initial: InitialLatents, image: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The marked part of the picture's latents replaced by noise or zeros; clean, and as the loop starts."""
        run, mask = self._run, self._latent_mask
        if self._canvas.softness == "differential":
            mask = (mask > 0).to(mask.dtype)
        inside = self._random(image) if self._canvas.content == "noise" else image.new_zeros(())
        emptied = mask_latent.blend(image, inside, mask)
        latents = emptied if run.request.denoising_start is not None else run.schedule.add_noise(emptied, noise)
        return emptied, latents

    # -- in every step ----------------------------------------------------------------------------------

    def keep(self, step: Step, latents: Tensor) -> Tensor:
        """At the port ``latents_out``: what is kept, at the noise level of the next step, around what was drawn."""
        assert self._image is not None
        assert self._noise is not None
        self._check(latents)
        kept = self._run.schedule.add_noise(self._image, self._noise, step.index + 1)
        return mask_latent.blend(kept, latents, self._mask_at(step.index))

    def tell(self, inputs: UNetInput) -> UNetInput:
        """At the port ``unet_input``: mask and masked picture, for every branch, as a U-Net for inpainting wants."""
        import torch

        assert self._masked is not None
        self._check(inputs.sample)
        rows = inputs.sample.shape[0]
        if rows not in self._channels:
            mask = mask_latent.nearest(self._told_mask, *self._size)
            if not self._canvas.hard:
                mask = (mask_latent.averaged(self._told_mask, *self._size) > 0).float()
            mask = mask.to(self._masked).expand(rows, 1, *self._size)
            masked = self._masked.repeat(rows // self._masked.shape[0], 1, 1, 1)
            self._channels[rows] = torch.cat([mask, masked], dim=1)
        return inputs.add_channels(self._channels[rows])

    def show(self, step: Step, x0: Tensor) -> Tensor:
        """At the port ``preview``: what is kept is shown as it will be."""
        kept = self._image if self._blends else self._masked
        assert kept is not None
        mask = self._mask_at(step.index) if self._blends else self._latent_mask
        return mask_latent.blend(kept, x0, mask).to(x0.dtype)

    def _check(self, latents: Tensor) -> None:
        if tuple(latents.shape[-2:]) != self._size:
            height, width = latents.shape[-2:]
            raise RuntimeError(
                f"a step on {width}x{height} latents, but the mask is for {self._size[1]}x{self._size[0]}: a stage of "
                "whole_step cuts the latents into tiles; tiles around the U-Net call, or around the whole run, work"
            )


DRAWING: StateKey[Drawing] = StateKey("inpaint drawing")


def drawing_of(run: Run, softness: str, composite: bool) -> Drawing:
    """The drawing of a run; made once, for the two hooks that need it."""
    return run.state.make(DRAWING, lambda: Drawing(run, softness, composite))
