"""Safety checks, Safe Latent Diffusion and a bias audit for sdcore."""

from .check import Check, CheckSettings, ImageCheck, PromptCheck
from .errors import SafetyUnavailable
from .options import Safety
from .plugin import SafetyPlugin
from .policy import Policy
from .report import Finding, SafetyReport

__all__ = [
    "Check",
    "CheckSettings",
    "Finding",
    "ImageCheck",
    "Policy",
    "PromptCheck",
    "Safety",
    "SafetyPlugin",
    "SafetyReport",
    "SafetyUnavailable",
]
