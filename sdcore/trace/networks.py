"""The model's own networks, watched during a traced run: hooks of torch that look and change nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .recorder import Place, Recorder
from .residuals import Residuals

if TYPE_CHECKING:
    from sdcore.models import Model

CORE = "core"


class Networks:
    """Times the U-Net, the text encoders and the codec; tells residuals what they are added to.

    ``attach`` puts hooks on the modules, ``detach`` takes them off.
    """

    def __init__(self, model: Model, recorder: Recorder, residuals: Residuals) -> None:
        self._model, self._recorder, self._residuals = model, recorder, residuals
        self._handles: list[Any] = []

    def attach(self) -> None:
        """Begin to watch."""
        unet: Any = self._model.unet
        self._time(unet, "unet", in_step=True)
        self._handles.append(unet.register_forward_hook(lambda *_: self._residuals.settle()))
        if getattr(unet, "conv_in", None) is not None:
            self._look(unet.conv_in, lambda output: self._residuals.block_ran("down", [output]))
        for block in getattr(unet, "down_blocks", None) or ():
            self._look(block, self._down)
        if getattr(unet, "mid_block", None) is not None:
            self._look(unet.mid_block, lambda output: self._residuals.block_ran("mid", [output]))
        for encoder in self._model.text_encoders:
            self._time(encoder, "text encoder")
        for name in ("encoder", "decoder"):
            part = getattr(self._model.vae, name, None)
            if hasattr(part, "register_forward_hook"):
                self._time(part, f"vae {name}")

    def detach(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _time(self, module: Any, what: str, in_step: bool = False) -> None:
        recorder = self._recorder
        begun: list[Any] = []

        def before(*_: Any) -> None:
            if recorder.open:
                place = Place(CORE, "sdcore", what, "network", None, type(module).__name__, recorder.number)
                begun.append(recorder.push(place, recorder.step if in_step else None))

        def after(*_: Any) -> None:
            if begun:
                recorder.pop(begun.pop())

        self._handles += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]

    def _look(self, module: Any, seen: Any) -> None:
        def after(_module: Any, _args: Any, output: Any) -> None:
            if self._residuals.wanted:
                with self._recorder.apart():
                    seen(output)

        self._handles.append(module.register_forward_hook(after))

    def _down(self, output: Any) -> None:
        """A down block puts out its hidden state, and skip connections, the last of which is that state again."""
        if not isinstance(output, tuple) or len(output) != 2:
            return  # a block of another kind
        skips = output[1]
        self._residuals.block_ran("down", skips)
        # A T2I-Adapter's features are added once a block, before it is made smaller.
        self._residuals.block_ran("inside", skips[-2:-1] or skips)
