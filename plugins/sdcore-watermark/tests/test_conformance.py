from __future__ import annotations

import importlib.util

from sdcore_watermark.conformance import CredentialsConformance, WatermarkConformance


class TestWatermark(WatermarkConformance):
    pass


if importlib.util.find_spec("c2pa") is not None:

    class TestCredentials(CredentialsConformance):
        pass
