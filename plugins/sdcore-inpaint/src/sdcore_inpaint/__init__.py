"""Inpainting and outpainting for sdcore: redraw what a mask marks, or make the canvas larger."""

from .inpaint import InpaintPlugin
from .options import Inpaint, Outpaint
from .outpaint import OutpaintPlugin

__all__ = ["Inpaint", "InpaintPlugin", "Outpaint", "OutpaintPlugin"]
