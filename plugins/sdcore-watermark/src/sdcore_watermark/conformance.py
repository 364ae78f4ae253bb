"""What this package's plugin is checked with: `sdcore check watermark`."""

from __future__ import annotations

from sdcore.testing import PluginConformance


class WatermarkConformance(PluginConformance):
    """The mark in pixels, and that in the noise too. It needs pictures of 64 pixels."""

    plugin = "watermark"
    options = ({}, {"latent": True})
    request = {"height": 64, "width": 64}
