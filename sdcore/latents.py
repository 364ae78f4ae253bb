"""Where the loop starts and what comes out of it: schedule, initial latents, codec."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from . import ports
from .calling import broke, call, chain, onion
from .errors import ImageError, RequestError
from .families import family_of
from .images import image_to_tensor, load_image
from .order import Plan
from .schedule import Schedule
from .schedulers import make_scheduler
from .stages import DecodeArgs, ImageArgs, InitialLatents, NoiseArgs

if TYPE_CHECKING:
    from torch import Tensor

    from .run import Run


def make_schedule(run: Run, plan: Plan) -> Schedule:
    """The timesteps that this run visits."""
    request, model = run.request, run.model
    assert request.steps is not None
    scheduler = make_scheduler(request.scheduler, model.scheduler_config, run.registry)
    sigmas = request.sigmas
    schedule = Schedule(scheduler, request.steps, timesteps=request.timesteps, sigmas=sigmas)
    schedule.check_eta(request.eta)
    if plan[ports.sigmas]:
        current = tuple(float(v) for v in getattr(scheduler, "sigmas", ())[:-1])
        changed = chain(plan[ports.sigmas], current)
        if changed != current:
            scheduler = make_scheduler(request.scheduler, model.scheduler_config, run.registry)
            schedule = Schedule(scheduler, len(changed), sigmas=changed)
    if request.denoising_start is not None:
        schedule.begin_at(request.denoising_start)
    elif request.image is not None:
        assert request.strength is not None
        if not hasattr(scheduler, "add_noise"):
            raise RequestError(
                f"scheduler {type(scheduler).__name__} cannot add noise to a picture; set denoising_start=0 to begin "
                "with the picture as it is, or use another scheduler"
            )
        schedule.begin_at_strength(request.strength)
    if request.denoising_end is not None:
        schedule.end_at(request.denoising_end)
    schedule.choose(chain(plan[ports.timesteps], schedule.timesteps))
    return schedule


def initial_latents(run: Run, plan: Plan) -> Tensor:
    """Latents (batch, channels, height, width) noised for the first step."""
    schedule, request = run.schedule, run.request
    image = None if request.image is None else _image_latents(run, plan)
    # Drawn after the picture is encoded, as diffusers does: the encoder samples from the same generators.
    if image is None:
        noise: Tensor | None = _noise(run, plan)
        assert noise is not None
        latents = schedule.pure_noise(noise)
    elif request.denoising_start is not None:
        noise, latents = None, image
    else:
        noise = _noise(run, plan)
        latents = schedule.add_noise(image, noise)
    initial = InitialLatents(latents, noise, image, schedule.add_noise, partial(_encode, run, plan))
    stages = plan[ports.initial_latents]
    if stages:
        changed: InitialLatents = chain(stages, initial)
        if changed.latents.shape != latents.shape:
            raise broke(
                stages[-1], f"the latents have shape {tuple(changed.latents.shape)}, expected {tuple(latents.shape)}"
            )
        latents = changed.latents
    return latents.to(run.device, run.dtype)


def latent_shape(run: Run) -> tuple[int, int, int]:
    """(channels, height, width) of one picture's latents."""
    factor = run.model.vae_scale_factor
    return run.model.latent_channels, run.height // factor, run.width // factor


def _noise(run: Run, plan: Plan) -> Tensor:
    import torch

    claimed = plan[ports.noise]
    shape = (1, *latent_shape(run))
    drawn = []
    for index, (seed, generator) in enumerate(zip(run.seeds, run.generators, strict=True)):
        if claimed:
            one: Tensor = call(claimed[0], NoiseArgs(index, seed, shape, generator))
            if tuple(one.shape) != shape:
                raise broke(claimed[0], f"it returned {tuple(one.shape)}, expected {shape}")
        else:
            one = torch.randn(shape, generator=generator, dtype=run.dtype)
        drawn.append(one.to(run.device, run.dtype))
    return torch.cat(drawn)


def _image_latents(run: Run, plan: Plan) -> Tensor:
    """Clean latents of the input: encoded from a picture, or taken as they are."""
    import torch

    image = run.request.image
    if isinstance(image, torch.Tensor):
        wanted = latent_shape(run)
        given = image if image.ndim == 4 else image[None]
        if tuple(given.shape[1:]) != wanted or given.shape[0] not in (1, len(run.seeds)):
            raise ImageError(
                f"the latents given as image have shape {tuple(image.shape)}; this run needs (1 or {len(run.seeds)}, "
                f"{', '.join(map(str, wanted))}): channels, height/{run.model.vae_scale_factor}, width/..."
            )
        latents = given.to(run.device, run.dtype)
        return latents if latents.shape[0] == len(run.seeds) else latents.repeat(len(run.seeds), 1, 1, 1)
    pixels = image_to_tensor(load_image(image), run.height, run.width, device=run.device, dtype=run.dtype)
    return torch.cat([_encode(run, plan, pixels, index) for index in range(len(run.generators))])


def _encode(run: Run, plan: Plan, pixels: Tensor, index: int, purpose: str = "image") -> Tensor:
    """Pixels through the stages of ``encode_image`` and the codec, with the generator of picture ``index``."""
    encode = onion(plan[ports.encode_image], lambda args: encode_pixels(run, args.pixels, args.generator))
    latents: Tensor = encode(ImageArgs(index, pixels, run.generators[index], purpose))
    return latents


def encode_pixels(run: Run, pixels: Tensor, generator: Any) -> Tensor:
    """Pixels (1, 3, h, w) in [-1, 1] through the codec: a sample of its posterior, scaled."""
    vae: Any = run.model.vae
    with _upcast(run) as dtype:
        encoded = vae.encode(pixels.to(dtype))
        if hasattr(encoded, "latent_dist"):
            latents: Tensor = encoded.latent_dist.sample(generator)
        else:
            latents = encoded.latents
    return _scale(run, latents.to(run.dtype))


def decode_latents(run: Run, plan: Plan, latents: Tensor) -> Tensor:
    """Latents to pixels (batch, 3, height, width) in about [-1, 1]."""
    decode = onion(plan[ports.decode], lambda args: decode_plain(run, args.latents))
    pixels: Tensor = decode(DecodeArgs(latents))
    if pixels.ndim != 4 or pixels.shape[0] != latents.shape[0]:
        stage = plan[ports.decode][0]
        raise broke(stage, f"it returned {tuple(pixels.shape)}, expected ({latents.shape[0]}, 3, height, width)")
    return pixels


def decode_plain(run: Run, latents: Tensor) -> Tensor:
    """Latents through the codec, without stages."""
    import torch

    vae: Any = run.model.vae
    with _upcast(run) as dtype:
        # Scaled in the wider of the two types, as diffusers does.
        wide = latents.to(torch.promote_types(latents.dtype, dtype))
        pixels: Tensor = vae.decode(_unscale(run, wide).to(dtype), return_dict=False)[0]
    return pixels


class _upcast:
    """Carry out the codec in float32 where it overflows in half precision."""

    def __init__(self, run: Run) -> None:
        import torch

        self._vae: Any = run.model.vae
        self._before = self._vae.dtype
        careful = family_of(run.model.family).careful_codec and bool(getattr(self._vae.config, "force_upcast", False))
        self._needed = careful and self._before == torch.float16

    def __enter__(self) -> Any:
        import torch

        if self._needed:
            self._vae.to(torch.float32)
        return self._vae.dtype

    def __exit__(self, *_: object) -> None:
        if self._needed:
            self._vae.to(self._before)  # float16 to float32 and back is exact


def _moments(run: Run) -> tuple[Tensor, Tensor] | None:
    import torch

    config = run.model.vae.config
    mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if mean is None or std is None:
        return None
    shape = (1, -1, 1, 1)
    return tuple(torch.tensor(v, device=run.device, dtype=run.dtype).view(shape) for v in (mean, std))  # type: ignore[return-value]


def _scale(run: Run, latents: Tensor) -> Tensor:
    moments = _moments(run)
    factor: float = run.model.vae.config.scaling_factor
    if moments is None:
        return factor * latents
    mean, std = moments
    return (latents - mean) * factor / std


def _unscale(run: Run, latents: Tensor) -> Tensor:
    moments = _moments(run)
    factor: float = run.model.vae.config.scaling_factor
    if moments is None:
        return latents / factor
    mean, std = moments
    return latents * std / factor + mean


def check_size(height: int, width: int, factor: int) -> None:
    """Refuse sizes that the codec cannot make, naming the nearest that it can."""
    for name, value in (("height", height), ("width", width)):
        if value % factor:
            below, above = value // factor * factor, (value // factor + 1) * factor
            near = f"{above}" if below == 0 else f"{below} or {above}"
            raise RequestError(f"{name} {value} is not a multiple of {factor}, as this model needs; use {near}")
