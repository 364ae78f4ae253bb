"""Optimizers by name: settings reach them, and wrong ones are refused before any work."""

import importlib.util
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from sdcore_train.config import Optimizer
from sdcore_train.optim.optimizers import check_optimizer, make_optimizer, param_groups
from sdcore_train.optim.state import optimizer_from_tensors, optimizer_to_tensors

from sdcore import RequestError

HAS = {name: importlib.util.find_spec(name) is not None for name in ("bitsandbytes", "prodigyopt")}
NAMES = [
    pytest.param(name, marks=pytest.mark.skipif(not HAS.get(package, True), reason=f"{package} is not installed"))
    for name, package in [
        ("adamw", ""),
        ("adafactor", ""),
        ("sgd", ""),
        ("torch.optim.RAdam", ""),
        ("torch.optim.Adafactor", ""),
        ("prodigy", "prodigyopt"),
        ("adamw8bit", "bitsandbytes"),
    ]
]


class Net(torch.nn.Module):
    """Large enough that 8-bit state is really in 8 bits (from 4,096 values on)."""

    def __init__(self) -> None:
        super().__init__()
        self.token_embedding = torch.nn.Embedding(10, 8)
        self.time_embedding = torch.nn.Sequential(torch.nn.Linear(8, 8))
        self.conv = torch.nn.Conv2d(8, 96, 3, padding=1).to(memory_format=torch.channels_last)
        self.norm = torch.nn.GroupNorm(4, 96)
        self.out = torch.nn.Linear(96, 4)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.time_embedding(self.token_embedding(tokens))
        x = x.movedim(-1, 1).reshape(len(tokens), 8, 2, -1)
        return self.out(self.norm(self.conv(x)).mean((2, 3)))


def net() -> Net:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Net()


def config(name: str, **more: object) -> Optimizer:
    return Optimizer(name=name, learning_rate=1.0 if name == "prodigy" else 1e-2, **more)


def optimizer_of(model: Net, settings: Optimizer) -> torch.optim.Optimizer:
    groups = param_groups(model.named_parameters(), settings.learning_rate, settings.weight_decay, "unet")
    return make_optimizer(settings, groups)


def train(model: Net, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        tokens = torch.randint(10, (4, 8), generator=generator)
        target = torch.randn(4, 4, generator=generator)
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("base", group["lr"]) * (1 - step / 100)
        optimizer.zero_grad(set_to_none=True)
        (model(tokens) - target).square().mean().backward()
        optimizer.step()


def same(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_state_goes_through_files_and_continues_bit_for_bit(name, tmp_path):
    whole = net()
    train(whole, optimizer_of(whole, config(name)), range(6))

    first = net()
    optimizer = optimizer_of(first, config(name))
    train(first, optimizer, range(3))
    assert not same(first, net())
    tensors, values = optimizer_to_tensors(optimizer, dict(first.named_parameters()))
    save_file(tensors, tmp_path / "state.safetensors")
    (tmp_path / "state.json").write_text(json.dumps(values, allow_nan=False))

    second = net()
    second.load_state_dict({key: value.clone() for key, value in first.state_dict().items()})
    resumed = optimizer_of(second, config(name))
    values = json.loads((tmp_path / "state.json").read_text())
    optimizer_from_tensors(resumed, dict(second.named_parameters()), load_file(tmp_path / "state.safetensors"), values)
    train(second, resumed, range(3, 6))
    assert same(second, whole)


@pytest.mark.parametrize("name", NAMES)
def test_without_its_state_it_does_not_continue(name):
    whole, cut = net(), net()
    train(whole, optimizer_of(whole, config(name)), range(6))
    train(cut, optimizer_of(cut, config(name)), range(3))
    train(cut, optimizer_of(cut, config(name)), range(3, 6))
    assert not same(cut, whole)


def test_state_keeps_types_layouts_and_infinity(tmp_path):
    model = net()
    half = torch.nn.Parameter(torch.zeros(6, 4, dtype=torch.bfloat16))
    optimizer = torch.optim.SGD([half, model.conv.weight], lr=0.1, momentum=0.9)
    optimizer.state[half] = {"momentum_buffer": torch.full((6, 4), 1 / 3), "odd": (1, None, float("inf"), {3: True})}
    strange = torch.randn(96, 8, 3, 3, generator=torch.Generator().manual_seed(0)).permute(1, 0, 2, 3)
    optimizer.state[model.conv.weight] = {"momentum_buffer": strange}
    named = {"half": half, "conv": model.conv.weight}
    tensors, values = optimizer_to_tensors(optimizer, named)
    save_file(tensors, tmp_path / "state.safetensors")
    other = torch.optim.SGD([half, model.conv.weight], lr=0.5)
    read = json.loads(json.dumps(values, allow_nan=False))
    optimizer_from_tensors(other, named, load_file(tmp_path / "state.safetensors"), read)
    buffer = other.state[half]["momentum_buffer"]
    assert buffer.dtype == torch.float32  # torch alone would have cast it to bfloat16
    assert torch.equal(buffer, torch.full((6, 4), 1 / 3))
    assert other.state[half]["odd"] == (1, None, float("inf"), {3: True})
    assert other.state[model.conv.weight]["momentum_buffer"].stride() == strange.stride()
    assert other.param_groups[0]["lr"] == 0.1


def test_a_table_that_is_shared_is_written_once_and_parts_of_a_tensor_are_copied(tmp_path):
    one, two = (torch.nn.Parameter(torch.zeros(3)) for _ in range(2))
    optimizer = torch.optim.SGD([one, two], lr=0.1)
    table = torch.arange(3.0)
    pool = torch.arange(8.0)
    optimizer.state[one] = {"table": table, "buffer": pool[:3]}
    optimizer.state[two] = {"table": table, "buffer": pool[2:5]}
    tensors, values = optimizer_to_tensors(optimizer, {"one": one, "two": two})
    assert sorted(tensors) == ["one/buffer", "one/table", "two/buffer"]
    save_file(tensors, tmp_path / "state.safetensors")
    other = torch.optim.SGD([one, two], lr=0.1)
    optimizer_from_tensors(other, {"one": one, "two": two}, load_file(tmp_path / "state.safetensors"), values)
    assert other.state[two]["table"].tolist() == [0, 1, 2]
    assert other.state[two]["buffer"].tolist() == [2, 3, 4]


def test_state_of_other_parameters_is_refused():
    model = net()
    optimizer = optimizer_of(model, config("adamw"))
    train(model, optimizer, range(1))
    named = dict(model.named_parameters())
    tensors, values = optimizer_to_tensors(optimizer, named)
    fewer = make_optimizer(config("adamw"), param_groups(list(named.items())[:-2], 1e-2, 0.01, "unet"))
    with pytest.raises(RequestError, match=r"differ in 'out.weight'"):
        optimizer_from_tensors(fewer, named, tensors, values)
    single = make_optimizer(config("adamw"), param_groups(named.items(), 1e-2, 0.0, "unet"))
    with pytest.raises(RequestError, match="2 groups"):
        optimizer_from_tensors(single, named, tensors, values)
    del tensors["conv.weight/exp_avg"]
    with pytest.raises(RequestError, match=r"lacks the tensor 'conv\.weight/exp_avg'"):
        optimizer_from_tensors(optimizer, named, tensors, values)
    with pytest.raises(RequestError, match="1 parameters without a name"):
        optimizer_to_tensors(optimizer, {key: value for key, value in named.items() if key != "conv.weight"})


def test_biases_norms_and_tables_do_not_decay():
    model = net()
    model.time_embedding[0].bias.requires_grad_(False)
    pairs = [*model.named_parameters(), ("again", model.conv.weight)]
    decayed, kept = param_groups(pairs, 1e-4, 0.1, "unet")
    names = {id(value): name for name, value in model.named_parameters()}
    assert [names[id(p)] for p in decayed["params"]] == ["time_embedding.0.weight", "conv.weight", "out.weight"]
    assert {names[id(p)] for p in kept["params"]} == {
        "token_embedding.weight",
        *("conv.bias", "norm.weight", "norm.bias", "out.bias"),
    }
    assert (decayed["name"], decayed["weight_decay"], decayed["lr"]) == ("unet", 0.1, 1e-4)
    assert (kept["name"], kept["weight_decay"], kept["lr"]) == ("unet:no-decay", 0.0, 1e-4)
    assert len(param_groups(pairs, 1e-4, 0.0, "unet")) == 1
    assert param_groups([], 1e-4, 0.0, "unet") == []


def test_tables_of_real_models_are_found():
    from transformers import CLIPTextConfig, CLIPTextModel

    size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    with torch.device("meta"):
        text = CLIPTextModel(CLIPTextConfig(vocab_size=20, **size))
    _, kept = param_groups(text.named_parameters(), 1e-4, 0.1, "text")
    assert len([p for p in kept["params"] if p.ndim == 2]) == 2  # of tokens and of positions


def test_adamw_is_fused_where_it_can_be():
    model = net()
    assert optimizer_of(model, config("adamw")).defaults["fused"] is True
    assert optimizer_of(model, config("adamw", options={"fused": False})).defaults["fused"] is False
    parameter = torch.nn.Parameter(torch.zeros(2, 2, dtype=torch.complex64))  # has no fused kernel
    made = make_optimizer(config("adamw"), param_groups([("a", parameter)], 1e-3, 0.0, "unet"))
    parameter.grad = torch.ones_like(parameter)
    made.step()
    assert parameter.abs().min() > 0


@pytest.mark.parametrize("name", ["adamw", "torch.optim.Adam"])
def test_settings_reach_it(name):
    made = optimizer_of(net(), config(name, betas=(0.5, 0.6), epsilon=1e-3, options={"amsgrad": True}))
    first, second = made.param_groups
    assert (first["betas"], first["eps"], first["amsgrad"], first["lr"]) == ((0.5, 0.6), 1e-3, True, 1e-2)
    assert (first["weight_decay"], second["weight_decay"]) == (0.01, 0.0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "adam"}, "no optimizer is called 'adam'. Did you mean 'adamw'"),
        ({"name": "adamw", "options": {"amsgard": True}}, "takes no argument 'amsgard'. Did you mean 'amsgrad'"),
        ({"name": "adamw", "options": {"lr": 1.0}}, "'lr': set learning_rate instead"),
        ({"name": "torch.optim.Nothing"}, "cannot be imported"),
        ({"name": "no_such_package.Adam"}, "cannot be imported"),
        ({"name": "torch.nn.Linear"}, "no subclass of torch.optim.Optimizer"),
    ],
)
def test_wrong_settings_are_refused_before_there_are_parameters(settings, message):
    with pytest.raises(RequestError) as caught:
        check_optimizer(Optimizer(**settings))
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "adafactor", "options": {"relative_step": True}}, "refuses its settings"),
        ({"name": "sgd", "betas": (-1.0, 0.9)}, "momentum"),
    ],
)
def test_what_the_optimizer_refuses_is_a_request_error(settings, message):
    with pytest.raises(RequestError, match=message):
        optimizer_of(net(), Optimizer(learning_rate=1e-3, **settings))


def test_nothing_to_train_is_an_error():
    with pytest.raises(RequestError, match="nothing is trained"):
        make_optimizer(config("adamw"), [])


@pytest.mark.parametrize(("name", "package"), [("adamw8bit", "bitsandbytes"), ("prodigy", "prodigyopt")])
def test_missing_packages_are_named_with_their_install_line(name, package, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda asked, *more: None if asked == package else find(asked))
    with pytest.raises(RequestError, match=r'pip install "sdcore-train\[(8bit|prodigy)\]"'):
        check_optimizer(config(name))


@pytest.mark.skipif(not HAS["prodigyopt"], reason="prodigyopt is not installed")
def test_prodigy_wants_one_learning_rate(capsys):
    settings, model = config("prodigy", weight_decay=0.1), net()
    groups = param_groups(model.named_parameters(), 1.0, 0.1, "unet")
    assert make_optimizer(settings, groups).defaults["use_bias_correction"]
    assert capsys.readouterr().out == ""
    groups[0]["lr"] = 0.5
    with pytest.raises(RequestError, match="one learning rate"):
        make_optimizer(settings, groups)
