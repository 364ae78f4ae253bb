"""FreeU in miniature: weaker skip connections in the first up block (arXiv 2309.11497)."""

from sdcore import Contributions, Plugin, Run, hookimpl, ports
from sdcore.stages import SkipPair


class SoftPlugin(Plugin):
    name = "soft"

    @hookimpl
    def unet(self, run: Run) -> Contributions:
        sites = [site for site in run.find_sites("skip") if site.index == 0]
        return ports.skip(lambda call, pair: SkipPair(pair.hidden, pair.skip * 0.9), sites=sites)
