"""What this package's plugin is checked with: `sdcore check safety`."""

from __future__ import annotations

from sdcore.testing import PluginConformance


class SafetyConformance(PluginConformance):
    """Safe Latent Diffusion, with checks that report; and checks alone, which change no picture that passes."""

    plugin = "safety"
    options = ({"sld": "max", "action": "flag"},)
    neutral = {"sld": "off"}
