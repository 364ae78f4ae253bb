"""SD1.x: one CLIP encoder; its last hidden state after the final layer norm is the context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sdcore.stages import Conditioning, TextEncoding

if TYPE_CHECKING:
    from torch import Tensor

    from sdcore.models import Model
    from sdcore.request import GenerateRequest


class SD1:
    """Stable Diffusion 1.x, and everything built like it."""

    name: str = "sd1"
    steps = 30
    guidance_scale = 7.5
    strength = 0.75
    careful_codec = False

    def encode(
        self, encoder: Any, ids: Tensor, mask: Tensor | None, clip_skip: int | None
    ) -> tuple[Tensor, Tensor | None]:
        """Last hidden state, or with ``clip_skip`` an earlier one, through the final layer norm."""
        if clip_skip is None:
            return encoder(ids, attention_mask=mask)[0], None
        states = encoder(ids, attention_mask=mask, output_hidden_states=True).hidden_states
        body = getattr(encoder, "text_model", encoder)
        return body.final_layer_norm(states[-(clip_skip + 1)]), None

    def conditioning(
        self,
        model: Model,
        request: GenerateRequest,
        branch: str,
        size: tuple[int, int],
        encodings: Sequence[TextEncoding],
    ) -> Conditioning:
        """The text's hidden states, as they are."""
        return Conditioning(encodings[0].hidden)
