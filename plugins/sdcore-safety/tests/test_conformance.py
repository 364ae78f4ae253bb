from __future__ import annotations

from sdcore_safety.conformance import SafetyConformance


class TestSafety(SafetyConformance):
    pass
