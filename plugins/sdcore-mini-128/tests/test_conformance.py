from __future__ import annotations

from sdcore.testing import PluginConformance


class TestMini128(PluginConformance):
    plugin = "mini-128"
