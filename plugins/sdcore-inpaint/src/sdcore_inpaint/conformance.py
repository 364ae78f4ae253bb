"""What this package's plugins are checked with: `sdcore check inpaint`, `sdcore check outpaint`."""

from __future__ import annotations

from collections.abc import Iterable

from sdcore.testing import Case, PluginConformance, Setting


class InpaintConformance(PluginConformance):
    """Half of a picture redrawn, in place and cut out."""

    plugin = "inpaint"

    def cases(self, setting: Setting) -> Iterable[Case]:
        """The setting's picture and mask."""
        mask, request = str(setting.mask()), {"image": str(setting.picture()), "strength": 1.0}
        yield Case({"mask": mask}, "in place", request=request)
        yield Case({"mask": mask, "softness": "soft", "only_masked": True}, "cut out", request=request)


class OutpaintConformance(PluginConformance):
    """A canvas that grows on one side."""

    plugin = "outpaint"

    def cases(self, setting: Setting) -> Iterable[Case]:
        """Half as wide again."""
        yield Case({"right": setting.size // 2}, request={"image": str(setting.picture()), "strength": 1.0})
