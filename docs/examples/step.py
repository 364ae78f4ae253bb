"""No guidance in the first fifth of the steps: the negative branch is not even computed there."""

from sdcore import Branch, Contributions, Plugin, Run, hookimpl, ports


class LatePlugin(Plugin):
    name = "late"

    @hookimpl
    def step(self, run: Run) -> Contributions:
        def branches(step):
            return [Branch("cond")] if step.fraction < 0.2 else [Branch("uncond"), Branch("cond")]

        def guidance(step, predictions):
            cond = predictions["cond"]
            if "uncond" not in predictions:
                return cond
            return predictions["uncond"] + run.request.guidance_scale * (cond - predictions["uncond"])

        return [ports.branches(branches), ports.guidance(guidance)]
