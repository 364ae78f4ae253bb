from __future__ import annotations

from sdcore_dreambooth.conformance import DreamBoothConformance, TextualInversionConformance


class TestDreamBooth(DreamBoothConformance):
    pass


class TestTextualInversion(TextualInversionConformance):
    pass
