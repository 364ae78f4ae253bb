from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sdcore_controlnet.preprocess import preprocess_image
from sdcore_controlnet.preprocess.depth import gives_distance, inverse_of, to_unit
from sdcore_controlnet.preprocess.normal import coloured, normals_of_depth
from sdcore_controlnet.preprocess.palette import ADE20K
from sdcore_controlnet.preprocess.segmentation import coloured as colours_of
from transformers import (
    DPTConfig,
    DPTForDepthEstimation,
    DPTImageProcessor,
    SegformerConfig,
    SegformerForSemanticSegmentation,
    SegformerImageProcessor,
)

from sdcore import ImageError, ModelError
from sdcore.quiet import quiet


@pytest.fixture(scope="module")
def depth_network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dpt")
    config = DPTConfig(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=8,
        backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 8, 16, 16], fusion_hidden_size=8, is_hybrid=False,
        initializer_range=0.3,
    )  # fmt: skip
    with quiet(), torch.random.fork_rng():
        torch.manual_seed(0)
        DPTForDepthEstimation(config).save_pretrained(folder)
        DPTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("segformer")
    config = SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[8, 16], patch_sizes=[7, 3], strides=[4, 2],
        num_attention_heads=[1, 2], mlp_ratios=[2, 2], decoder_hidden_size=8, num_labels=150,
    )  # fmt: skip
    with quiet(), torch.random.fork_rng():
        torch.manual_seed(0)
        SegformerForSemanticSegmentation(config).save_pretrained(folder)
        SegformerImageProcessor(size={"height": 64, "width": 64}).save_pretrained(folder)
    return folder


def angles_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.degrees(np.arccos(np.clip((a * b).sum(-1), -1, 1)))


def of_colours(image: Image.Image) -> np.ndarray:
    """Right, up, towards the viewer."""
    normals = np.asarray(image, float) / 127.5 - 1
    normals[..., 0] *= -1
    return normals / np.linalg.norm(normals, axis=-1, keepdims=True)


@pytest.mark.parametrize("slopes", [(0.0, 0.0), (0.3, 0.0), (0.0, -0.4), (0.2, 0.25)])
def test_normals_of_a_plane(slopes: tuple[float, float]) -> None:
    size, relief = 256, 0.8
    y, x = np.mgrid[:size, :size] - 127.5
    field = slopes[0] * x + slopes[1] * y + 102  # in pixels; y is down
    depth = (field / (relief * size)).astype(np.float32)
    expected = np.array([-slopes[0], slopes[1], 1.0])
    expected /= np.linalg.norm(expected)
    for smooth in (0, 3):
        assert angles_between(normals_of_depth(depth, relief, smooth), expected).max() < 0.05
    # A picture has 256 grey values; at the border a blur sees half of them.
    picture = Image.fromarray(np.rint(255 * depth).astype(np.uint8))
    found = of_colours(preprocess_image("normal", picture, relief=relief, smooth=4))
    assert angles_between(found, expected)[16:-16, 16:-16].max() < 2.5


def test_normals_of_a_sphere() -> None:
    size, radius = 256, 100
    y, x = np.mgrid[:size, :size] - (size - 1) / 2
    inside = np.hypot(x, y) < 0.85 * radius
    field = np.sqrt(np.maximum(radius**2 - x**2 - y**2, 0))
    expected = np.stack([x / radius, -y / radius, field / radius], axis=-1)  # it bulges towards the viewer
    depth = (field / (0.5 * size)).astype(np.float32)
    assert angles_between(normals_of_depth(depth, 0.5), expected)[inside].max() < 0.6
    picture = Image.fromarray(np.rint(255 * depth).astype(np.uint8))
    error = angles_between(of_colours(preprocess_image("normal", picture, relief=0.5)), expected)[inside]
    assert np.median(error) < 1.5
    assert error.max() < 6


def test_axes_and_background() -> None:
    towards = np.array([[[0, 0, 1.0]]], np.float32)
    left, up = np.array([[[-1.0, 0, 0]]], np.float32), np.array([[[0, 1.0, 0]]], np.float32)
    assert coloured(towards)[0, 0].tolist() == [128, 128, 255]
    assert coloured(left)[0, 0, 0] == 255
    assert coloured(left, "opengl")[0, 0, 0] == 0
    assert coloured(up)[0, 0, 1] == 255
    ramp = np.linspace(0, 1, 64, dtype=np.float32)[None].repeat(64, 0)
    normals = normals_of_depth(ramp, 0.5, background=0.5)
    assert (normals[:, :31] == (0, 0, 1)).all()
    assert (normals[:, 33:, 0] < 0).all()


def test_depth_is_near_white() -> None:
    distance = np.linspace(1, 10, 50, dtype=np.float32)[None]
    unit = to_unit(inverse_of(distance))
    assert unit[0, 0] == 1
    assert unit[0, -1] == 0
    assert (np.diff(unit) < 0).all()
    assert not to_unit(np.full((4, 4), 3.0, np.float32)).any()
    assert not gives_distance(DPTConfig())


def test_depth_through_a_network(depth_network: Path, photo: Image.Image) -> None:
    with quiet():
        made = preprocess_image("depth", photo, model=depth_network, resolution=128)
        again = preprocess_image("depth", photo, model=depth_network, resolution=128)
        far = np.asarray(preprocess_image("depth", photo, model=depth_network, resolution=128, predicts="distance"))
        model = DPTForDepthEstimation.from_pretrained(depth_network)
        small_photo = photo.resize((128, 128), Image.Resampling.BOX)
        inputs = DPTImageProcessor.from_pretrained(depth_network)(small_photo, return_tensors="pt")
    values = np.asarray(made)
    assert made.size == photo.size
    assert values.min() == 0
    assert values.max() >= 250
    assert made.tobytes() == again.tobytes()
    with torch.inference_mode():
        theirs = model(**inputs).predicted_depth[0].numpy()
    small = np.asarray(made.convert("L").resize(theirs.shape[::-1], Image.Resampling.BOX), float)
    assert np.corrcoef(small.ravel(), theirs.ravel())[0, 1] > 0.97
    assert values[far > np.percentile(far, 98)].mean() < 0.5 * values.mean()  # the other way round


def test_normals_through_a_network(depth_network: Path, photo: Image.Image) -> None:
    made = np.asarray(preprocess_image("normal", photo, model=depth_network))
    assert made[..., 2].min() >= 127  # nothing faces away
    assert made[..., 0].std() > 0


def test_the_palette_is_the_published_one() -> None:
    assert len(ADE20K) == 150
    # The authors gave road and skyscraper one colour.
    assert len(set(ADE20K)) == 149
    assert ADE20K[6] == ADE20K[48] == (140, 140, 140)
    known = {
        0: (120, 120, 120),
        2: (6, 230, 230),
        4: (4, 200, 3),
        12: (150, 5, 61),
        149: (92, 0, 255),
    }
    assert {index: ADE20K[index] for index in known} == known


def test_an_annotation_is_coloured() -> None:
    labels = np.arange(151, dtype=np.uint8).reshape(1, -1).repeat(10, 0)
    made = np.asarray(preprocess_image("segmentation", Image.fromarray(labels), source="labels"))
    assert (made[:, 0] == 0).all()
    assert (made[0, 1:] == np.array(ADE20K)).all()
    assert (colours_of(np.array([[-1, 150, 3]]))[0] == [(0, 0, 0), (0, 0, 0), ADE20K[3]]).all()
    with pytest.raises(ImageError, match="0 to 150"):
        preprocess_image("segmentation", Image.new("L", (9, 9), 151), source="labels")
    with pytest.raises(ImageError, match="colours"):
        preprocess_image("segmentation", Image.new("RGB", (9, 9), "red"), source="labels")


def test_segmentation_through_a_network(segmenter: Path, photo: Image.Image) -> None:
    made = preprocess_image("segmentation", photo, model=segmenter, resolution=96)
    assert made.size == photo.size
    found = {tuple(colour) for colour in np.asarray(made).reshape(-1, 3).tolist()}
    assert found <= set(ADE20K)
    assert made.tobytes() == preprocess_image("segmentation", photo, model=segmenter, resolution=96).tobytes()


def test_missing_and_wrong_weights(photo: Image.Image, tmp_path: Path, segmenter: Path) -> None:
    for name in ("depth", "segmentation"):
        with pytest.raises(ModelError, match="set `model`"):
            preprocess_image(name, photo)
        with pytest.raises(ModelError, match=r"no config\.json"):
            preprocess_image(name, photo, model=tmp_path)
        with pytest.raises(ModelError, match="no such folder"):
            preprocess_image(name, photo, model=str(tmp_path / "nowhere"))
    with pytest.raises(ModelError, match="cannot be loaded as a depth network"):
        preprocess_image("depth", photo, model=segmenter)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="cannot be loaded"):
        preprocess_image("depth", photo, model=tmp_path)
