"""How many steps this engine has made."""

from sdcore import Plugin, hookimpl
from sdcore.events import Event, Stepped


class CountPlugin(Plugin):
    name = "count"

    def __init__(self) -> None:
        self.steps = 0

    @hookimpl
    def observe(self, event: Event) -> None:
        self.steps += isinstance(event, Stepped)
