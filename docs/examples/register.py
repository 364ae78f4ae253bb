"""A scheduler under a name of its own."""

from sdcore import Plugin, Registry, SchedulerSpec, hookimpl


class FinePlugin(Plugin):
    name = "fine"

    @hookimpl
    def register(self, registry: Registry) -> None:
        spec = SchedulerSpec(
            "diffusers.schedulers.scheduling_euler_discrete:EulerDiscreteScheduler",
            {"use_karras_sigmas": True, "final_sigmas_type": "zero"},
            "Euler on Karras noise levels",
        )
        registry.add("scheduler", "fine-euler", spec)
