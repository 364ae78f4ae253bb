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
        "auto", description="how the source is laid out; auto looks"
    )
    captions: Literal["auto", "txt", "metadata", "name", "none"] = Field(
        "auto",
        description="where captions are: .txt beside the picture, metadata.jsonl, the file name, or nowhere "
        "(`caption` is taken for all); auto takes the first that is there for a picture, in this order: metadata, "
        "txt, `caption`; never the name",
    )
    caption: str | None = Field(None, description="caption of pictures that have none of their own")
    repeats: int = Field(1, ge=1, le=10_000, description="how often each picture is visited in an epoch")
    weight: float = Field(1.0, ge=0, description="factor of the loss of its pictures")
    role: str = Field("", description="what the pictures are for, where a plugin asks (such as 'class')")
    image_column: str = Field("image", description="column or extension that holds the picture")
    caption_column: str = Field(
        "auto", description="column that holds the caption; auto: captions, text, caption, prompt"
    )
    score_column: str = Field("score", description="column of the quality score")
    masks: str | None = Field(None, description="folder of loss masks with the pictures' names; or a column")
    where: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="take only pictures whose metadata column has one of these values"
    )
    controls: str | None = Field(None, description="folder of control pictures with the pictures' names; or a column")


class Pictures(Options):
    """How pictures become batches."""

    height: int | None = Field(None, ge=8, description="pixels; None is the model's own size")
    width: int | None = Field(None, ge=8, description="pixels; None is the height")
    buckets: bool = Field(
        True,
        description="sort pictures by aspect ratio into sizes of about the same area, not crop all to one",
    )
    bucket_step: int = Field(64, ge=8, description="sizes of buckets are multiples of this, in pixels")
    max_aspect: float = Field(2.0, ge=1, le=8, description="widest and tallest bucket")
    crop: Literal["center", "random"] = Field(
        "center", description="where a picture is cut to its bucket; random turns the cache of latents off"
    )
    flip: bool = Field(False, description="mirror half of the visits")
    small: Literal["error", "skip", "enlarge"] = Field(
        "enlarge", description="what happens to a picture smaller than its bucket"
    )
    broken: Literal["skip", "error"] = Field("skip", description="what happens to a picture that cannot be read")
    score_power: float = Field(
        0.0,
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
        "disk", description="where latents are kept after they were encoded once"
    )
    cache_folder: str | None = Field(None, description="folder of the cache; None is 'cache' in the output folder")
    prefetch: int = Field(2, ge=0, le=64, description="batches that are read ahead, in a thread")


class Captions(Options):
    """How captions are varied."""

    dropout: float = Field(
        0.1, ge=0, le=1, description="share of visits with an empty caption, for classifier-free guidance"
    )
    shuffle: bool = Field(False, description="put the tags of a caption in random order")
    separator: str = Field(",", min_length=1, description="what stands between tags")
    keep: int = Field(0, ge=0, description="tags at the front that are neither moved nor dropped")
    tag_dropout: float = Field(0.0, ge=0, le=1, description="share of the other tags that are left out")
    prefix: str = Field("", description="put before every caption that is not dropped")
    cache: bool = Field(True, description="keep encoded captions while the text encoders are not trained")


class Optimizer(Options):
    """Who updates the weights."""

    name: str = Field("adamw", description="adamw, adamw8bit, adafactor, prodigy, sgd, or module.path.Class")
    learning_rate: float = Field(
        1e-5, ge=0, le=10, description="of the U-Net and of adapters; 1.0 is usual for prodigy"
    )
    text_encoder_learning_rate: float | None = Field(
        None, ge=0, le=10, description="of text encoders; None is the same"
    )
    weight_decay: float = Field(
        0.01, ge=0, le=10, description="decoupled weight decay; not of biases, norms and embeddings"
    )
    betas: tuple[float, float] = Field((0.9, 0.999), description="of the moments")
    epsilon: float = Field(1e-8, gt=0, description="added to the denominator")
    clip: float = Field(1.0, ge=0, description="largest norm of the gradient; 0 is no limit")
    options: dict[str, Any] = Field(default_factory=dict, description="other arguments of the optimizer")


class Schedule(Options):
    """How the learning rate goes."""

    name: Literal["constant", "linear", "cosine", "polynomial", "cosine-restarts"] = Field(
        "constant", description="its course after the warm-up"
    )
    warmup: int = Field(0, ge=0, description="steps in which it rises from 0")
    final: float = Field(0.0, ge=0, le=1, description="share of the learning rate that is left at the end")
    cycles: int = Field(1, ge=1, description="of cosine-restarts")
    power: float = Field(1.0, gt=0, description="of polynomial")


class Ema(Options):
    """An average of the weights over time (the weights that are saved)."""

    decay: float = Field(0.0, ge=0, lt=1, description="0 is no average; 0.999 and more are usual")
    warmup: bool = Field(True, description="smaller decay in the first steps: (1 + step) / (10 + step)")


class Checkpoints(Options):
    """What is kept so that training can go on."""

    every: int = Field(500, ge=0, description="steps; 0 writes none but the last")
    seconds: float = Field(0.0, ge=0, description="also after this time, if it is shorter; 0 is never")
    keep: int = Field(2, ge=1, description="how many are kept")


class Samples(Options):
    """Pictures that are drawn while training."""

    every: int = Field(0, ge=0, description="steps; 0 draws only at the end if there are prompts")
    prompts: tuple[str, ...] = Field((), description="one row each")
    count: int = Field(1, ge=1, le=16, description="pictures for each prompt, of consecutive seeds")
    seed: int = Field(0, description="of the first picture")
    request: dict[str, Any] = Field(
        default_factory=dict, description="other fields of the request: steps, guidance_scale, ..."
    )


class Logging(Options):
    """What is written about the training."""

    every: int = Field(10, ge=1, description="steps between lines of log.jsonl")
    curve: int = Field(100, ge=0, description="steps between pictures of the loss curve; 0 is only at the end")
    tensorboard: bool = Field(False, description="also write event files (needs sdcore-train[tensorboard])")


def _one_or_many(value: Any) -> Any:
    return (value,) if isinstance(value, dict) else value


class TrainConfig(Options):
    """Everything that decides a training.

    ``use`` lists the training plugins that take part, as ``{"plugin": name, **options}`` or as their options: what
    is trained ("full", "lora", ...), and what else acts ("min-snr", "noise-offset", ...).
    """

    model: str | None = Field(
        None, description="folder, .safetensors file, hub id or name of an installed model; None is the installed one"
    )
    output: str = Field("trained", description="folder for everything that is written")
    data: Annotated[tuple[Source, ...], BeforeValidator(_one_or_many)] = Field(
        (), description="where pictures come from"
    )
    use: tuple[Any, ...] = Field(
        (),
        validate_default=False,
        description='training plugins, each as its options, as text such as "min-snr:gamma=5", or as {plugin, options}',
    )
    steps: int | None = Field(None, ge=1, description="updates of the weights; None: by `epochs`")
    epochs: float | None = Field(None, gt=0, description="rounds through the data, instead of `steps`")
    batch_size: int = Field(1, ge=1, description="pictures for each micro-batch and process")
    accumulate: int = Field(1, ge=1, description="micro-batches for each update")
    seed: int = Field(0, ge=0, lt=2**63, description="decides everything that is random")
    prediction: Literal["epsilon", "v_prediction", "sample"] | None = Field(
        None, description="what the U-Net predicts; None: what the model says"
    )
    precision: Literal["no", "fp16", "bf16"] = Field(
        "no", description="of the arithmetic (mixed precision); trained weights stay float32"
    )
    gradient_checkpointing: bool = Field(False, description="less memory for about a quarter more time")
    distributed: Literal["auto", "ddp", "fsdp"] = Field("auto", description="how several processes share the work")
    device: str | None = Field(None, description="such as 'cuda' or 'cpu'; None is what accelerate finds")
    threads: int | None = Field(None, ge=1, description="CPU threads of torch; None leaves them")
    pictures: Pictures = Field(Pictures.model_validate({}), description="how pictures become batches")
    captions: Captions = Field(Captions.model_validate({}), description="how captions are varied")
    optimizer: Optimizer = Field(Optimizer.model_validate({}), description="who updates the weights")
    schedule: Schedule = Field(Schedule.model_validate({}), description="how the learning rate goes")
    ema: Ema = Field(Ema.model_validate({}), description="average of the weights over time")
    checkpoints: Checkpoints = Field(Checkpoints.model_validate({}), description="what is kept to go on from")
    samples: Samples = Field(Samples.model_validate({}), description="pictures drawn while training")
    logging: Logging = Field(Logging.model_validate({}), description="what is written about the training")

    @field_validator("use", mode="before")
    @classmethod
    def _uses(cls, value: Any) -> Any:
        return read_uses(value)

    @model_validator(mode="after")
    def _length(self) -> TrainConfig:
        if self.steps is not None and self.epochs is not None:
            raise ValueError(f"steps is {self.steps} and epochs is {self.epochs}: give one of them")
        return self
