from __future__ import annotations

from sdcore_lora.conformance import LoRAConformance


class TestLoRA(LoRAConformance):
    pass
