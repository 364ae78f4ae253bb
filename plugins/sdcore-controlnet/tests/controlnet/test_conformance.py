from __future__ import annotations

from sdcore_controlnet.conformance import ControlNetConformance


class TestControlNet(ControlNetConformance):
    pass
