from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture(scope="session")
def photo() -> Image.Image:
    """Eileen Collins, NASA, 1999: in the public domain."""
    with Image.open(Path(__file__).with_name("astronaut.jpg")) as image:
        return image.convert("RGB")
