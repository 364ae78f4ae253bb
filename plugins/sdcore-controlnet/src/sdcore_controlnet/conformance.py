"""What this package's plugin is checked with: `sdcore check controlnet`."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.metadata import entry_points

from sdcore.testing import Case, PluginConformance, Setting

EMBEDDED = "mini-canny"


class ControlNetConformance(PluginConformance):
    """A ControlNet with a preprocessor, and a T2I-Adapter; on the embedded model, its own ControlNet."""

    plugin = "controlnet"
    no_cases = f"no ControlNet for this model is installed: pip install sdcore-mini-control ({EMBEDDED})"

    def cases(self, setting: Setting) -> Iterable[Case]:
        """Small random nets that fit the setting's model."""
        from sdcore.testing.tiny_control import tiny_controlnet, tiny_t2i_adapter

        picture, off = str(setting.picture()), {"scale": 0}
        if setting.family == "embedded":
            if list(entry_points(group="sdcore.controlnets", name=EMBEDDED)):
                yield Case({"model": EMBEDDED, "image": picture, "preprocess": "canny"}, "ControlNet", off)
            return
        net, adapter = str(tiny_controlnet(setting.family)), str(tiny_t2i_adapter(setting.family))
        yield Case({"model": net, "image": picture, "preprocess": "canny"}, "ControlNet", off)
        yield Case({"model": adapter, "image": picture, "scale": 0.7}, "T2I-Adapter", off)
