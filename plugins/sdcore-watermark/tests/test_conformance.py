from __future__ import annotations

from sdcore_watermark.conformance import WatermarkConformance


class TestWatermark(WatermarkConformance):
    pass
