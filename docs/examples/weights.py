"""Weaken every text-to-picture value projection by a tenth."""

from sdcore import Contributions, Plugin, Run, WeightPatch, hookimpl, ports


class ShyPlugin(Plugin):
    name = "shy"

    @hookimpl
    def weights(self, run: Run) -> Contributions:
        for key, _ in run.model.unet.named_parameters():
            if key.endswith("attn2.to_v.weight"):
                yield ports.weights(WeightPatch("unet", key, lambda original: -0.1 * original))
