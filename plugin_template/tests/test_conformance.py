from sdcore.testing import PluginConformance


class TestTemplate(PluginConformance):
    plugin = "template"
    options = ({"warmth": 0.8}, {"words": "flat style"})
    neutral = {"words": "", "warmth": 0}
