"""The configuration of a training: what a TOML file, the flags of a command and the Python API all fill in."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from sdcore import Options
from sdcore.uses import read_uses


class Source(Options):
    """One place that pictures come from."""

    path: str = Field(
        description="folder of pictures, folder of a Hugging Face dataset, or WebDataset shards (a .tar, a folder of "
        "them, or a pattern such as data-{000..012}.tar)"
    )
    kind: Literal["auto", "folder", "huggingface", "webdataset"] = Field(
        default="auto", description="how the source is laid out; auto looks"
    )
    captions: Literal["auto", "txt", "metadata", "name", "none"] = Field(
        default="auto",
        description="where captions are: .txt beside the picture, metadata.jsonl, the file name, or nowhere "
        "(`caption` is taken for all); auto takes the first that is there for a picture, in this order: metadata, "
        "txt, `caption`; never the name",
    )
    caption: str | None = Field(default=None, description="caption of pictures that have none of their own")
    repeats: int = Field(default=1, ge=1, le=10_000, description="how often each picture is visited in an epoch")
    weight: float = Field(default=1.0, ge=0, description="factor of the loss of its pictures")
    role: str = Field(default="", description="what the pictures are for, where a plugin asks (such as 'class')")
    image_column: str = Field(default="image", description="column or extension that holds the picture")
    caption_column: str = Field(
        default="auto", description="column that holds the caption; auto: captions, text, caption, prompt"
    )
    score_column: str = Field(default="score", description="column of the quality score")
    masks: str | None = Field(default=None, description="folder of loss masks with the pictures' names; or a column")
    where: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="take only pictures whose metadata column has one of these values"
    )
    controls: str | None = Field(
        default=None, description="folder of control pictures with the pictures' names; or a column"
    )


class Pictures(Options):
    """How pictures become batches."""

    height: int | None = Field(default=None, ge=8, description="pixels; None is the model's own size")
    width: int | None = Field(default=None, ge=8, description="pixels; None is the height")
    buckets: bool = Field(
        default=True,
        description="sort pictures by aspect ratio into sizes of about the same area, not crop all to one",
    )
    bucket_step: int | None = Field(
        default=None,
        ge=8,
        description="sizes of buckets are multiples of this, in pixels; None is an eighth of the size, at most 64",
    )
    max_aspect: float = Field(default=2.0, ge=1, le=8, description="widest and tallest bucket")
    crop: Literal["center", "random"] = Field(
        default="center", description="where a picture is cut to its bucket; random turns the cache of latents off"
    )
    flip: bool = Field(default=False, description="mirror half of the visits")
    small: Literal["error", "skip", "enlarge"] = Field(
        default="enlarge", description="what happens to a picture smaller than its bucket"
    )
    broken: Literal["skip", "error"] = Field(
        default="skip", description="what happens to a picture that cannot be read"
    )
    score_power: float = Field(
        default=0.0,
        ge=0,
        le=16,
        description="above 0 pictures are drawn with replacement, with a probability that grows with their score: rank "
        "in (0, 1] to this power; those without a score count as the median",
    )
    shares: dict[str, int] = Field(
        default_factory=dict,
        description="pictures of sources with this role in every micro-batch; all other roles fill the rest",
    )
    cache: Literal["disk", "memory", "off"] = Field(
        default="disk", description="where latents are kept after they were encoded once"
    )
    cache_folder: str | None = Field(
        default=None, description="folder of the cache; None is 'cache' in the output folder"
    )
    prefetch: int = Field(default=2, ge=0, le=64, description="batches that are read ahead")
    workers: int = Field(
        default=0,
        ge=0,
        le=64,
        description="processes that read them; 0 is a thread, which is enough where a step takes a tenth of a second",
    )


class Captions(Options):
    """How captions are varied."""

    dropout: float = Field(
        default=0.1, ge=0, le=1, description="share of visits with an empty caption, for classifier-free guidance"
    )
    shuffle: bool = Field(default=False, description="put the tags of a caption in random order")
    separator: str = Field(default=",", min_length=1, description="what stands between tags")
    keep: int = Field(default=0, ge=0, description="tags at the front that are neither moved nor dropped")
    tag_dropout: float = Field(default=0.0, ge=0, le=1, description="share of the other tags that are left out")
    prefix: str = Field(default="", description="put before every caption that is not dropped")
    cache: bool = Field(default=True, description="keep encoded captions while the text encoders are not trained")


class Optimizer(Options):
    """Who updates the weights."""

    name: str = Field(default="adamw", description="adamw, adamw8bit, adafactor, prodigy, sgd, or module.path.Class")
    learning_rate: float = Field(
        default=1e-5, ge=0, le=10, description="of the U-Net and of adapters; 1.0 is usual for prodigy"
    )
    text_encoder_learning_rate: float | None = Field(
        default=None, ge=0, le=10, description="of text encoders; None is the same"
    )
    weight_decay: float = Field(
        default=0.01, ge=0, le=10, description="decoupled weight decay; not of biases, norms and embeddings"
    )
    betas: tuple[float, float] = Field(default=(0.9, 0.999), description="of the moments")
    epsilon: float = Field(default=1e-8, gt=0, description="added to the denominator")
    clip: float = Field(default=1.0, ge=0, description="largest norm of the gradient; 0 is no limit")
    options: dict[str, Any] = Field(default_factory=dict, description="other arguments of the optimizer")


class Schedule(Options):
    """How the learning rate goes."""

    name: Literal["constant", "linear", "cosine", "polynomial", "cosine-restarts"] = Field(
        default="constant", description="its course after the warm-up"
    )
    warmup: int = Field(default=0, ge=0, description="steps in which it rises from 0")
    final: float = Field(default=0.0, ge=0, le=1, description="share of the learning rate that is left at the end")
    cycles: int = Field(default=1, ge=1, description="of cosine-restarts")
    power: float = Field(default=1.0, gt=0, description="of polynomial")


class Ema(Options):
    """An average of the weights over time (the weights that are saved)."""

    decay: float = Field(default=0.0, ge=0, lt=1, description="0 is no average; 0.999 and more are usual")
    warmup: bool = Field(default=True, description="smaller decay in the first steps: (1 + step) / (10 + step)")


class Checkpoints(Options):
    """What is kept so that training can go on."""

    every: int = Field(default=500, ge=0, description="steps; 0 writes none but the last")
    seconds: float = Field(default=0.0, ge=0, description="also after this time, if it is shorter; 0 is never")
    keep: int = Field(default=2, ge=1, description="how many are kept")


class Samples(Options):
    """Pictures that are drawn while training."""

    every: int = Field(default=0, ge=0, description="steps; 0 draws only at the end if there are prompts")
    prompts: tuple[str, ...] = Field(default=(), description="one row each")
    count: int = Field(default=1, ge=1, le=16, description="pictures for each prompt, of consecutive seeds")
    seed: int = Field(default=0, description="of the first picture")
    request: dict[str, Any] = Field(
        default_factory=dict, description="other fields of the request: steps, guidance_scale, ..."
    )


class Logging(Options):
    """What is written about the training."""

    every: int = Field(default=10, ge=1, description="steps between lines of log.jsonl")
    curve: int = Field(default=100, ge=0, description="steps between pictures of the loss curve; 0 is only at the end")
    tensorboard: bool = Field(default=False, description="also write event files (needs sdcore-train[tensorboard])")


def _one_or_many(value: Any) -> Any:
    return (value,) if isinstance(value, dict) else value


class TrainConfig(Options):
    """Everything that decides a training.

    ``use`` lists the training plugins that take part, as ``{"plugin": name, **options}`` or as their options: what
    is trained ("full", "lora", ...), and what else acts ("min-snr", "noise-offset", ...).
    """

    model: str | None = Field(
        default=None,
        description="folder, .safetensors file, hub id or name of an installed model; None is the installed one",
    )
    output: str = Field(default="trained", description="folder for everything that is written")
    data: Annotated[tuple[Source, ...], BeforeValidator(_one_or_many)] = Field(
        default=(), description="where pictures come from"
    )
    use: tuple[Any, ...] = Field(
        default=(),
        validate_default=False,
        description='training plugins, each as its options, as text such as "min-snr:gamma=5", or as {plugin, options}',
    )
    steps: int | None = Field(default=None, ge=1, description="updates of the weights; None: by `epochs`")
    epochs: float | None = Field(default=None, gt=0, description="rounds through the data, instead of `steps`")
    batch_size: int = Field(default=1, ge=1, description="pictures for each micro-batch and process")
    accumulate: int = Field(default=1, ge=1, description="micro-batches for each update")
    seed: int = Field(default=0, ge=0, lt=2**63, description="decides everything that is random")
    prediction: Literal["epsilon", "v_prediction", "sample"] | None = Field(
        default=None, description="what the U-Net predicts; None: what the model says"
    )
    precision: Literal["no", "fp16", "bf16"] = Field(
        default="no", description="of the arithmetic (mixed precision); trained weights stay float32"
    )
    compile: str | None = Field(
        default=None,
        description="backend of torch.compile for the trained networks, usually 'inductor': a minute at the start "
        "for faster steps on a GPU (not of a VAE); None is no compilation",
    )
    gradient_checkpointing: bool = Field(default=False, description="less memory for about a quarter more time")
    distributed: Literal["auto", "ddp", "fsdp"] = Field(
        default="auto", description="how several processes share the work"
    )
    device: str | None = Field(default=None, description="such as 'cuda' or 'cpu'; None is what accelerate finds")
    threads: int | None = Field(default=None, ge=1, description="CPU threads of torch; None leaves them")
    pictures: Pictures = Field(default=Pictures.model_validate({}), description="how pictures become batches")
    captions: Captions = Field(default=Captions.model_validate({}), description="how captions are varied")
    optimizer: Optimizer = Field(default=Optimizer.model_validate({}), description="who updates the weights")
    schedule: Schedule = Field(default=Schedule.model_validate({}), description="how the learning rate goes")
    ema: Ema = Field(default=Ema.model_validate({}), description="average of the weights over time")
    checkpoints: Checkpoints = Field(default=Checkpoints.model_validate({}), description="what is kept to go on from")
    samples: Samples = Field(default=Samples.model_validate({}), description="pictures drawn while training")
    logging: Logging = Field(default=Logging.model_validate({}), description="what is written about the training")

    @field_validator("use", mode="before")
    @classmethod
    def _uses(cls, value: Any) -> Any:
        return read_uses(value)

    @model_validator(mode="after")
    def _length(self) -> TrainConfig:
        if self.steps is not None and self.epochs is not None:
            raise ValueError(f"steps is {self.steps} and epochs is {self.epochs}: give one of them")
        return self
