from __future__ import annotations

from sdcore.testing import PluginConformance


class TestMini(PluginConformance):
    plugin = "mini"
