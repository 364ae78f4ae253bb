"""From a picture back to the noise that it was drawn from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from sdcore import Engine

RATE = 0.1


def invert(engine: Engine, image: Image, steps: int = 25, prompt: str = "", decoder_steps: int = 0) -> Any:
    """The noise from which a picture may have been drawn: DDIM inversion without guidance.

    Args:
        engine: with the model that drew it, or one of its family with the same latent space.
        image: the picture, at the size at which it was drawn.
        steps: U-Net calls.
        prompt: what it was drawn with, if known.
        decoder_steps: look for the latents that decode to the picture by so many steps of gradient descent, instead
            of taking what the encoder says. Dear (each is a decoding and its gradient), and better.

    Returns:
        A numpy array (channels, height, width).
    """
    from sdcore import Engine as EngineClass

    # An engine of its own around the same model: no policy, no other plugin takes part in looking back.
    plain = EngineClass(engine.model, plugins=())
    # denoising_start=0: the loop begins with the picture as it is, nothing is added to it.
    result = plain.generate(
        prompt,
        image=decoded_from(engine, image, decoder_steps) if decoder_steps else image,
        denoising_start=0.0,
        scheduler="ddim-inverse",
        guidance_scale=1.0,
        steps=steps,
        seed=0,
        output="latent",
    )
    assert result.latents is not None
    return result.latents[0].float().cpu().numpy()


def decoded_from(engine: Engine, image: Image, steps: int) -> Tensor:
    """Scaled latents (1, channels, height, width) whose decoding is the picture, by Adam from what the encoder says."""
    import torch

    from sdcore.images import image_to_tensor

    model: Any = engine.model
    vae, factor = model.vae, model.vae_scale_factor
    height, width = image.height // factor * factor, image.width // factor * factor
    pixels = image_to_tensor(image, height, width, device=model.device, dtype=vae.dtype)
    with torch.no_grad():
        encoded = vae.encode(pixels)
        start = encoded.latent_dist.mean if hasattr(encoded, "latent_dist") else encoded.latents
    with torch.enable_grad():
        latents = start.detach().float().clone().requires_grad_(True)
        optimizer = torch.optim.Adam([latents], lr=RATE)
        for _ in range(steps):
            seen = vae.decode(latents.to(vae.dtype), return_dict=False)[0]
            # What was clipped to 8 bits may have been brighter.
            error = (seen.clamp(-1.05, 1.05) - pixels).float().square().mean()
            (latents.grad,) = torch.autograd.grad(error, [latents])
            optimizer.step()
    return scaled(vae, latents.detach()).to(model.dtype)


def scaled(vae: Any, latents: Tensor) -> Tensor:
    """Latents of the codec as the U-Net knows them."""
    import torch

    mean, std = getattr(vae.config, "latents_mean", None), getattr(vae.config, "latents_std", None)
    factor = float(vae.config.scaling_factor)
    if mean is None or std is None:
        return latents * factor
    shape = (1, -1, 1, 1)
    moved = latents - torch.tensor(mean, device=latents.device).view(shape)
    return moved * factor / torch.tensor(std, device=latents.device).view(shape)
