from __future__ import annotations

from sdcore.testing import PluginConformance


class TestTrain(PluginConformance):
    plugin = "train"
