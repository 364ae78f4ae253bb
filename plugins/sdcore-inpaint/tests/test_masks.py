"""Reading, editing and refusing masks."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from sdcore_inpaint import Inpaint, Outpaint
from sdcore_inpaint.mask_edit import edit_mask
from sdcore_inpaint.mask_source import read_mask

from sdcore import ImageError, RequestError

FIELDS: dict[str, Any] = {"prompt": "a red cat", "steps": 2, "seed": 3, "scheduler": "ddim", "strength": 0.6}


def png(image: Image.Image) -> bytes:
    written = io.BytesIO()
    image.save(written, "PNG")
    return written.getvalue()


def test_every_grey_form_is_the_same_mask(engine_of: Any, picture: Any, blob: Any, tmp_path: Path) -> None:
    mask = blob(32, 32)
    file = tmp_path / "mask.png"
    mask.save(file)
    wide = Image.fromarray(np.asarray(mask).astype(np.uint16) * 257)
    assert wide.mode == "I;16"
    wide.save(tmp_path / "wide.png")
    forms = [
        mask, mask.convert("1"), mask.convert("RGB"), wide, file, str(file), tmp_path / "wide.png", png(mask),
        png(wide), "data:image/png;base64," + __import__("base64").b64encode(png(mask)).decode(),
    ]  # fmt: skip
    pictures = {
        engine_of().generate(**FIELDS, image=picture(32, 32), use=[Inpaint(mask=form)]).image.tobytes()
        for form in forms
    }
    assert len(pictures) == 1


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "CMYK"])
def test_modes_that_only_look_like_masks(blob: Any, mode: str, tmp_path: Path) -> None:
    image = blob(32, 32).convert("RGB").convert(mode) if mode == "P" else blob(32, 32).convert(mode)
    if mode in ("RGBA", "LA"):
        image.putpixel((0, 0), (0,) * len(image.getbands()))
    with pytest.raises(ValidationError, match="mask: "):
        Inpaint(mask=image)
    if mode != "CMYK":
        image.save(tmp_path / "mask.png")
        with pytest.raises(ImageError, match=r"transparency|palette|grey"):
            read_mask(tmp_path / "mask.png")


def test_colours_are_no_mask(blob: Any) -> None:
    image = blob(32, 32).convert("RGB")
    image.putpixel((3, 3), (255, 0, 0))
    with pytest.raises(ValidationError, match="colours"):
        Inpaint(mask=image)


@pytest.mark.parametrize("value", [None, 5, "", b"", b"no picture", [1], "data:image/png;base64,AAAA"])
def test_what_is_no_picture(value: Any) -> None:
    with pytest.raises(ValidationError, match=r"mask"):
        Inpaint(mask=value)


def mask_of(grey: int) -> Image.Image:
    return Image.new("L", (32, 32), grey)


def dot() -> Image.Image:
    mask = mask_of(0)
    mask.putpixel((2, 2), 255)
    return mask


WRONG: list[tuple[dict[str, Any], dict[str, Any], str]] = [
    ({"mask": mask_of(0)}, {}, "black everywhere.*invert=True"),
    ({"mask": mask_of(255), "invert": True}, {}, "black everywhere after it was edited.*invert=False"),
    ({"mask": mask_of(255)}, {}, "marks the whole picture.*image to image"),
    ({"mask": mask_of(200)}, {}, "marks the whole picture"),
    ({"mask": mask_of(255), "softness": "differential"}, {}, "marks the whole picture"),
    ({"mask": mask_of(100)}, {}, "lightest 100.*softness='soft'"),
    ({"mask": dot()}, {}, "falls between.*grow=4"),
    ({"mask": Image.new("L", (32, 40))}, {}, "32x40.*32x32"),
    ({"mask": "missing.png"}, {}, "no file.*missing.png"),
    ({"mask": dot(), "only_masked": True}, {"output": "latent"}, "only_masked.*latent"),
]


@pytest.mark.parametrize(("options", "fields", "message"), WRONG)
def test_wrong_masks_are_refused_before_any_work(
    engine_of: Any, picture: Any, options: Any, fields: Any, message: str
) -> None:
    engine = engine_of()
    spy: Any = engine.host.plugin("spy")
    with pytest.raises(RequestError, match=message):
        engine.generate(**{**FIELDS, **fields}, image=picture(32, 32), use=[Inpaint(**options), "spy"])
    assert not spy.purposes


def test_wrong_requests(engine_of: Any, picture: Any, blob: Any) -> None:
    import torch

    engine, good = engine_of(), Inpaint(mask=blob(32, 32))
    plain = {key: value for key, value in FIELDS.items() if key != "strength"}
    for fields, use, message in (
        (plain, [good], "no picture; give the request an image"),
        ({**FIELDS, "image": torch.zeros(1, 4, 8, 8)}, [good], "latents; give the picture itself"),
        ({**FIELDS, "image": picture(32, 32)}, [good, good], "used 2 times"),
        ({**FIELDS, "image": picture(32, 32)}, [good, Outpaint(left=8)], "cannot share a run with outpaint"),
    ):
        with pytest.raises(RequestError, match=message):
            engine.generate(**fields, use=use)
    with pytest.raises(RequestError, match="instruct"):
        engine_of("sd1", 8).generate(**FIELDS, image=picture(32, 32), use=[good])


def test_both_directions_of_json(engine_of: Any, picture: Any, blob: Any, tmp_path: Path) -> None:
    from sdcore import GenerateRequest

    blob(32, 32).save(tmp_path / "m.png")
    picture(32, 32).save(tmp_path / "p.png")
    engine = engine_of()
    for mask in (tmp_path / "m.png", blob(32, 32)):
        use = [Inpaint(mask=mask, feather=2, content="fill")]
        request = GenerateRequest(**FIELDS, image=str(tmp_path / "p.png"), use=use)
        again = GenerateRequest.from_json(engine.to_json(request))
        assert engine.generate(again).image.tobytes() == engine.generate(request).image.tobytes()


def test_editing() -> None:
    mask = Image.new("L", (40, 30))
    mask.paste(255, (10, 10, 20, 20))
    assert edit_mask(mask, grow=3).getbbox() == (7, 7, 23, 23)
    assert edit_mask(mask, shrink=2).getbbox() == (12, 12, 18, 18)
    assert edit_mask(mask, grow=3, shrink=3).tobytes() == mask.tobytes()
    assert edit_mask(mask, invert=True).getpixel((0, 0)) == 255
    assert edit_mask(mask, invert=True, grow=3).getpixel((12, 12)) == 255
    blurred = edit_mask(mask, blur=2.0)
    assert 0 < blurred.getpixel((9, 15)) < 128 < blurred.getpixel((11, 15))
    edge = Image.new("L", (40, 30))
    edge.paste(255, (0, 0, 20, 30))
    assert edit_mask(edge, shrink=4).getbbox() == (0, 0, 16, 30)  # the picture's edge is no edge of the mask
    assert mask.getbbox() == (10, 10, 20, 20)


def test_editing_reaches_the_picture(engine_of: Any, picture: Any) -> None:
    mask = Image.new("L", (32, 32))
    mask.paste(255, (8, 8, 16, 16))
    for edits, box in (({"grow": 4}, (4, 4, 20, 20)), ({"shrink": 2}, (10, 10, 14, 14)), ({}, (8, 8, 16, 16))):
        result = engine_of().generate(**FIELDS, image=picture(32, 32), use=[Inpaint(mask=mask, **edits)])
        changed = (np.asarray(result.image) != np.asarray(picture(32, 32))).any(axis=2)
        rows, columns = np.where(changed)
        assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == box
