"""The checks of this package, by name: imported when they are used."""

from __future__ import annotations

BUILT_IN = {
    "blocklist": f"{__name__}.blocklist:BlocklistCheck",
    "embedding": f"{__name__}.embedding:EmbeddingCheck",
    "nsfwjs": f"{__name__}.nsfwjs:NsfwjsCheck",
    "open-nsfw": f"{__name__}.open_nsfw:OpenNsfwCheck",
    "clip-checker": f"{__name__}.clip_checker:ClipChecker",
}
