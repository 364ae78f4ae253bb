"""What this package's plugins are checked with: `sdcore check watermark credentials`."""

from __future__ import annotations

from collections.abc import Iterable

from sdcore.testing import Case, PluginConformance, Setting


class WatermarkConformance(PluginConformance):
    """The mark in pixels, and that in the noise too. It needs pictures of 64 pixels."""

    plugin = "watermark"
    options = ({}, {"latent": True})
    request = {"height": 64, "width": 64}


class CredentialsConformance(PluginConformance):
    """A chain for development. Pixels stay as they are; what shows is who signs."""

    plugin = "credentials"

    def cases(self, setting: Setting) -> Iterable[Case]:
        """From text, and on a picture, which becomes the parent."""
        from .credentials.development import make_chain

        chain = make_chain()
        certificate = setting.file("signer.pem", lambda path: path.write_text(chain.certificates))
        key = setting.file("signer.key", lambda path: path.write_text(chain.key))
        who = {"certificate": str(certificate), "key": str(key)}
        yield Case(who, "from text")
        yield Case(who, "on a picture", request={"image": str(setting.picture()), "strength": 1.0})
