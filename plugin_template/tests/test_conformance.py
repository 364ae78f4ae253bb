"""What every plugin promises: `sdcore check template` looks at the same."""

from sdcore.testing import PluginConformance


class TestTemplate(PluginConformance):
    plugin = "template"
    options = ({"warmth": 0.8}, {"words": "flat style"})
    neutral = {"words": "", "warmth": 0}
