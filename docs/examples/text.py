"""A style that every prompt gets."""

from dataclasses import replace

from sdcore import Contributions, Options, Plugin, Run, hookimpl, ports


class Style(Options):
    words: str = "3d style"


class StylePlugin(Plugin):
    name = "style"
    options = Style

    @hookimpl
    def text(self, run: Run) -> Contributions:
        (style,) = run.uses(Style)
        return ports.prompt(lambda prompt: replace(prompt, positive=f"{prompt.positive}, {style.words}"))
