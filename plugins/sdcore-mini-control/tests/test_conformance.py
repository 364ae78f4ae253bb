from __future__ import annotations

from sdcore.testing import PluginConformance


class TestMiniCanny(PluginConformance):
    plugin = "mini-canny"
