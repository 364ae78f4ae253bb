from PIL import Image
from sdcore_template import Template, TemplatePlugin
from sdcore_template.colour import warm

from sdcore import Engine
from sdcore.testing.tiny import tiny_folder

REQUEST = {"seed": 1, "steps": 2, "height": 32, "width": 32}


def test_warm_moves_red_up_and_blue_down() -> None:
    image = Image.new("RGB", (8, 8), (100, 100, 100))
    assert warm(image, 1.0).getpixel((0, 0)) == (120, 100, 60)
    assert warm(image, 0.0).tobytes() == image.tobytes()


def test_it_changes_the_picture_and_only_when_used() -> None:
    engine = Engine.load(tiny_folder("sd1"), plugins=[TemplatePlugin])
    plain = engine.generate("a red apple", **REQUEST)
    warmed = engine.generate("a red apple", **REQUEST, use=[Template(warmth=1.0)])
    again = engine.generate("a red apple", **REQUEST)
    assert warmed.image.tobytes() == warm(plain.image, 1.0).tobytes()
    assert again.image.tobytes() == plain.image.tobytes()


def test_words_are_added_to_the_prompt() -> None:
    engine = Engine.load(tiny_folder("sd1"), plugins=[TemplatePlugin])
    added = engine.generate("a red apple", **REQUEST, use=[Template(words="flat style", warmth=0.0)])
    written = engine.generate("a red apple, flat style", **REQUEST)
    assert added.image.tobytes() == written.image.tobytes()
