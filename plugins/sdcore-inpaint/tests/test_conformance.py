from __future__ import annotations

from sdcore_inpaint.conformance import InpaintConformance, OutpaintConformance


class TestInpaint(InpaintConformance):
    pass


class TestOutpaint(OutpaintConformance):
    pass
