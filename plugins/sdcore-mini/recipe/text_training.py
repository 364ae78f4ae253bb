"""The training plugins ``tell-apart`` and ``remember``, which teach the text encoder before the U-Net sees it.

``tell-apart`` teaches it to say which thing, style and background a caption names. ``remember`` puts what it has found
into the last feed-forward layer as a memory of latents (see mini_recipe/memory.py), and trains that against the data.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from mini_recipe import labels, memory
from pydantic import Field
from safetensors.torch import load_file, save_file
from sdcore_train import Batch, Outcome, Trained, Training, TrainStep, generator, ports, save_model
from torch import Tensor
from torch.nn import Linear, Module, Parameter, ParameterDict
from torch.nn.functional import cross_entropy, pad

from sdcore import Contributions, Options

if TYPE_CHECKING:
    from sdcore_train import Job

SHARPNESS = 20.0
"""What cosines are multiplied by before the softmax."""
PAIRS = 0.15
"""Weight of the things of a pair: there are as many pairs as icons, and only icons are asked for one by one."""
SAMPLE = 1024


def tokens(job: Job, captions: Sequence[str]) -> Tensor:
    """(n, length) of tokens, no longer than the longest caption needs."""
    tokenizer: Any = job.model.tokenizers[0]
    known: dict[str, Tensor] = job.state.setdefault("tokens of captions", {})
    new = [caption for caption in dict.fromkeys(captions) if caption not in known]
    if new:
        found = tokenizer(new, padding="max_length", truncation=True, return_tensors="pt").input_ids
        known.update(zip(new, found.short(), strict=True))
    return memory.trimmed(torch.stack([known[caption] for caption in captions]).long(), tokenizer.eos_token_id)


class TextTraining(Training):
    """What both have in common: files that they need, and saving the model with its text encoder as it is now."""

    command = True

    def check(self, job: Job) -> Sequence[str]:
        """Files that are not there."""
        wanted = self.options.model_dump()
        wanted["data"] = str(Path(wanted["data"]) / "metadata.jsonl")
        missing = [f"{name}: there is no {path}" for name, path in wanted.items() if not Path(path).is_file()]
        return [f"{self.name}: {problem}; recipe/README.md says what makes it" for problem in missing]

    def save(self, job: Job, folder: Path) -> Iterable[Path]:
        """The model folder."""
        yield save_model(job.model, folder / "model", dtype=torch.float32)


class TellApart(Options):
    """How the text encoder learns to tell captions apart."""

    data: str = Field(default="runs/mini-data", description="the data set's folder, for what its pictures show")


class Heads(Module):
    """What is asked of the text encoder's state: keys that are compared by their angle, and two linear layers."""

    def __init__(self, width: int, counts: Mapping[str, int], things: int, draw: torch.Generator) -> None:
        super().__init__()
        self.keys = ParameterDict(
            {name: Parameter(torch.randn(count, width, generator=draw)) for name, count in counts.items()}
        )
        self.first, self.second = Linear(width, things), Linear(width, things)
        for layer in (self.first, self.second):
            layer.weight.data.copy_(torch.randn(layer.weight.shape, generator=draw) * width**-0.5)
            layer.bias.data.zero_()


class TellApartTraining(TextTraining):
    """Trains the text encoder, but for its last feed-forward layer, and keys; writes a model folder and the keys."""

    name = "tell-apart"
    Options = TellApart
    about = "let the text encoder tell captions apart"
    options: TellApart

    def parameters(self, job: Job) -> Iterable[Trained]:
        """The text encoder and the keys."""
        encoder: Any = job.model.text_encoders[0]
        self._labels = known = labels.Labels(Path(self.options.data))
        counts = {"cell": len(known.cells), "background": len(known.backgrounds) + 1, "style": len(known.styles) + 1}
        draw = generator(job.config.seed, "tell-apart")
        self._heads = Heads(encoder.config.hidden_size, counts, len(known.things), draw)
        last = f"layers.{encoder.config.num_hidden_layers - 1}"
        unused = (f"{last}.mlp", f"{last}.layer_norm2", "final_layer_norm")
        kept = {name: value for name, value in encoder.named_parameters() if not any(part in name for part in unused)}
        yield Trained("text_encoder", encoder, kept, called=False)
        yield Trained("tell_apart_heads", self._heads, dict(self._heads.named_parameters()), called=False)

    def stages(self, job: Job) -> Contributions:
        """Ask for what the captions name."""
        return [ports.forward(self._forward), ports.loss(self._loss, phase="base")]

    def _forward(self, step: TrainStep, batch: Batch) -> Outcome:
        job = step.job
        _, normed = memory.middle(job.model.text_encoders[0], tokens(job, batch.captions).to(job.device))
        return Outcome(step, batch, normed, normed.detach(), "sample")

    def _loss(self, outcome: Outcome) -> Mapping[str, Tensor]:
        """(n,) each; what a picture does not have costs it nothing."""
        normed, heads = outcome.prediction, self._heads
        target = self._labels.of(outcome.batch.keys, outcome.batch.captions).to(normed.device)
        scores = {name: SHARPNESS * memory.cosines(normed, keys) for name, keys in heads.keys.items()}
        first, second = (
            cross_entropy(head(normed), right, ignore_index=labels.NOBODY, reduction="none")
            for head, right in ((heads.first, target.first), (heads.second, target.second))
        )
        return {
            "cell": self._cells(scores["cell"].log_softmax(1), target),
            "background": 0.5 * cross_entropy(scores["background"], target.background, reduction="none"),
            "style": 0.5 * cross_entropy(scores["style"], target.style, reduction="none"),
            "pairs": PAIRS * (first + second),
        }

    def _cells(self, likely: Tensor, target: labels.Target) -> Tensor:
        """Where a caption does not say the style, each style of the thing is as right as the others."""
        cell = target.cell.clamp_min(0)
        siblings = self._labels.siblings.to(cell.device)[cell]
        there = (siblings >= 0).float()
        any_style = -(likely.gather(1, siblings.clamp_min(0)) * there).sum(1) / there.sum(1)
        this_style = -likely.gather(1, cell[:, None])[:, 0]
        return torch.where(target.said, this_style, any_style) * (target.cell >= 0)

    def save(self, job: Job, folder: Path) -> Iterable[Path]:
        """The model folder, and the keys beside it."""
        yield from super().save(job, folder)
        path = folder / "keys.safetensors"
        beside = path.with_name(path.name + ".tmp")
        save_file({name: keys.detach().cpu().contiguous() for name, keys in self._heads.keys.items()}, beside)
        yield beside.replace(path)


class Remember(Options):
    """How the memory is filled."""

    data: str = Field(default="runs/mini-data", description="the data set's folder, for what its pictures show")
    icons: str = Field(default="runs/mini-icons.safetensors", description="what icon_latents.py wrote")
    keys: str = Field(default="runs/mini-apart/keys.safetensors", description="what tell-apart wrote")


class RememberTraining(TextTraining):
    """Trains the whole text encoder and two linear layers that read latents out of its state."""

    name = "remember"
    Options = Remember
    about = "let the text encoder remember latents"
    options: Remember

    def parameters(self, job: Job) -> Iterable[Trained]:
        """Fill the memory, and train from there."""
        encoder: Any = job.model.text_encoders[0]
        cells, self._icons = labels.icon_latents(Path(self.options.icons))
        self._labels = known = labels.Labels(Path(self.options.data), cells)
        height, width = (side // job.model.vae_scale_factor for side in job.size)
        self._shape = (job.model.latent_channels, height, width)
        captions, target = self._sample(known, job)
        ids = [tokens(job, captions[start : start + 128]) for start in range(0, len(captions), 128)]
        with torch.no_grad():
            memory.place(encoder, ids, self._groups(encoder.config.hidden_size, target))
            states = torch.cat([memory.end_states(encoder, part) for part in ids])
        self._to_icons = Linear(states.shape[1], self._icons.shape[1])
        self._to_latents = Linear(states.shape[1], job.model.latent_channels * height * width)
        weight, bias = memory.affine(states, self._icons[target.cell])
        self._to_icons.weight.data.copy_(weight)
        self._to_icons.bias.data.copy_(bias)
        self._to_latents.weight.data.zero_()
        self._to_latents.bias.data.zero_()
        yield Trained("text_encoder", encoder, dict(encoder.named_parameters()), called=False)
        for name, layer in (("to_icons", self._to_icons), ("to_latents", self._to_latents)):
            yield Trained(name, layer, dict(layer.named_parameters()), called=False)

    def _sample(self, known: labels.Labels, job: Job) -> tuple[list[str], labels.Target]:
        """Full captions of some icons."""
        single = [(key, row["captions"][0]) for key, row in known.rows.items() if row["kind"] == "icon"]
        order = torch.randperm(len(single), generator=generator(job.config.seed, "remember"))
        keys, captions = zip(*(single[number] for number in order[:SAMPLE].tolist()), strict=True)
        return list(captions), known.of(keys, captions)

    def _groups(self, width: int, target: labels.Target) -> list[memory.Group]:
        """Keys with what is to be written for each: latents in the leading dimensions, a number for each other word."""
        keys = load_file(self.options.keys)
        others = len(keys["background"]) + len(keys["style"])
        values = memory.codes(self._icons, width - others)
        size = 0.6 * values.norm(dim=1).max()
        groups, start = [], values.shape[1]
        groups.append(memory.Group(keys["cell"], pad(values, (0, width - values.shape[1])), target.cell))
        for name, right in (("background", target.background), ("style", target.style)):
            written = torch.zeros(len(keys[name]), width)
            written[:, start : start + len(written)] = size * torch.eye(len(written))
            start += len(written)
            groups.append(memory.Group(keys[name], written, right))
        return groups

    def stages(self, job: Job) -> Contributions:
        """Predict latents from text instead of noise from noise."""
        return [ports.forward(self._forward), ports.loss(self._loss, phase="base")]

    def _forward(self, step: TrainStep, batch: Batch) -> Outcome:
        job = step.job
        state = memory.end_states(job.model.text_encoders[0], tokens(job, batch.captions).to(job.device))
        latents = job.latents_of(step, batch).to(state)
        return Outcome(step, batch, state, latents, "sample")

    def _loss(self, outcome: Outcome) -> Mapping[str, Tensor]:
        """(n,) each: of the icon without its background, and of the picture as it is."""
        state = outcome.prediction
        target = self._labels.of(outcome.batch.keys, outcome.batch.captions).to(state.device)
        single = (target.cell >= 0).to(state)
        self._icons = self._icons.to(state.device)
        icon = self._icons[target.cell.clamp_min(0)]
        return {
            "icon": (self._to_icons(state) - icon).square().mean(1) * single,
            "picture": 0.5 * (self._to_latents(state) - outcome.target.flatten(1)).square().mean(1),
        }

    def samples(self, job: Job) -> Sequence[tuple[str, Sequence[Any]]]:
        """What is remembered of some prompts, decoded."""
        from sdcore.images import tensors_to_images

        vae: Any = job.model.vae
        rows = []
        with torch.no_grad():
            for prompt in job.config.samples.prompts:
                state = memory.end_states(job.model.text_encoders[0], tokens(job, [prompt]).to(job.device))
                latents = self._to_latents(state).view(-1, *self._shape)
                rows.append((prompt, tensors_to_images(vae.decode(latents / vae.config.scaling_factor).sample)))
        return rows
