"""What a family decides."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from sdcore.stages import Conditioning, TextEncoding

if TYPE_CHECKING:
    from torch import Tensor

    from sdcore.models import Model
    from sdcore.request import GenerateRequest


class Family(Protocol):
    """A family of models.

    Attributes:
        name: as in ``model.family``.
        steps, guidance_scale, strength: defaults of a request, where the model gives none.
        careful_codec: whether a codec whose config says ``force_upcast`` works in float32 when it is in float16. As in
            diffusers that is SDXL's; configs of the older families say so too, by default, and their codecs do not
            overflow.
    """

    @property
    def name(self) -> str:
        """Short name."""
        ...

    steps: int
    guidance_scale: float
    strength: float
    careful_codec: bool

    def encode(
        self, encoder: Any, ids: Tensor, mask: Tensor | None, clip_skip: int | None
    ) -> tuple[Tensor, Tensor | None]:
        """One window of token ids (1, window) through one encoder: hidden (1, window, width) and pooled or None."""
        ...

    def conditioning(
        self,
        model: Model,
        request: GenerateRequest,
        branch: str,
        size: tuple[int, int],
        encodings: Sequence[TextEncoding],
    ) -> Conditioning:
        """From what every encoder made of a branch's text to what the U-Net is told.

        Args:
            model: the model.
            request: the complete request.
            branch: ``"cond"`` or ``"uncond"``.
            size: (height, width) in pixels.
            encodings: one per encoder, all equally long.
        """
        ...
