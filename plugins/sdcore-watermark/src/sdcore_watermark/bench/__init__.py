"""The robustness suite: ``sdcore watermark bench``."""
