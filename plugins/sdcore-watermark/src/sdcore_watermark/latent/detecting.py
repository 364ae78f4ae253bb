"""Finding the mark of the scheme ``latent``: the picture is carried back to the noise that it was drawn from."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sdcore import RequestError
from sdcore_watermark.detection import Detection
from sdcore_watermark.keys import Key

from .inversion import invert

if TYPE_CHECKING:
    from PIL.Image import Image

    from sdcore import Engine

NAME = "latent"
SURE = 0.9


def detect_latent(
    engine: Engine,
    image: Image,
    key: Key,
    *,
    steps: int = 25,
    prompt: str = "",
    seed: int | None = None,
    decoder_steps: int = 0,
) -> Detection:
    """Look for the mark that ``Watermark(latent=True)`` put into the noise of a picture.

    Args:
        engine: with the model that drew the picture, or one near it.
        image: the picture, at the size at which it was drawn; a mirrored one is found too.
        key: all its generations are looked for.
        steps: of the inversion; it costs as many U-Net calls.
        prompt: that the picture was drawn with, if known: the noise is recovered better.
        seed: that it was drawn with, if known: one sign pattern is looked for instead of 4,096.
        decoder_steps: of gradient descent through the decoder (60 are many), which recovers the noise better.

    Returns:
        The detection; the payload is None for latents of less than 2,048 values, which bear none.

    Raises:
        RequestError: an argument is out of range.
    """
    if not isinstance(key, Key):
        raise RequestError(f"key is a {type(key).__name__}; use Key.load(path) or Key.generate()")
    if not 1 <= steps <= 1000:
        raise RequestError(f"steps is {steps!r}; use 1 to 1000, 25 is usual")
    if not 0 <= decoder_steps <= 10_000:
        raise RequestError(f"decoder_steps is {decoder_steps!r}; use 0 to 10000, 60 is usual")
    noise = invert(engine, image.convert("RGB"), steps, prompt, decoder_steps)
    generations = key.split()
    best = min((read_noise(noise, one, seed) for one in generations), key=lambda detection: detection.p_value)
    return replace(best, p_value=min(1.0, best.p_value * len(generations)))


def read_noise(noise: Any, key: Key, seed: int | None = None) -> Detection:
    """Look for the mark of one key in recovered noise (channels, height, width)."""
    from sdcore_watermark.spread.code import decode
    from sdcore_watermark.spread.correlate import p_value

    from .signs import nonce_of, read

    secret = key.subkey(NAME)
    found = read(secret, noise, None if seed is None else (nonce_of(secret, seed),))
    p = p_value(found.z, found.hypotheses)
    payload: int | None = None
    guess: int | None = None
    confidence: tuple[float, ...] = ()
    if found.soft is not None:
        word = decode(found.soft, secret[0] & 15)
        confidence, guess = word.confidence, word.payload
        if word.checks and min(confidence) >= SURE and p <= 1e-3:
            payload = word.payload
    return Detection(NAME, p, found.z, payload, confidence, {"mirror": found.mirror}, key.key_id, guess)
