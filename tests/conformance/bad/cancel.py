"""It cleans up after errors, but not after cancelling."""

from __future__ import annotations

from sdcore import Contributions, Plugin, Run, hookimpl, ports


class Bad(Plugin):
    """Adds a number to the latents."""

    name = "bad"

    def __init__(self) -> None:
        self.locked = False

    @hookimpl
    def step(self, run: Run) -> Contributions:
        from sdcore import Cancelled

        def around(args, call_next):
            if self.locked:
                raise RuntimeError("it is in use")
            self.locked = True
            try:
                latents = call_next(args) + 0.1
            except Cancelled:
                raise
            except Exception:
                self.locked = False
                raise
            self.locked = False
            return latents

        return ports.whole_step(around)
