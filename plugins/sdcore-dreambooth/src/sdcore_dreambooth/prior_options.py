"""How the prior is preserved: the part of the options that says which class pictures are drawn, and how."""

from __future__ import annotations

from pydantic import Field

from sdcore import Options


class Prior(Options):
    """Prior preservation: the model also learns from pictures of the class that it drew itself before."""

    prior_weight: float = Field(
        default=1.0, ge=0, le=100, description="how much keeping the class as it is counts; 0 is no prior preservation"
    )
    class_share: float = Field(default=0.5, gt=0, lt=1, description="share of class pictures in each batch")
    class_count: int = Field(default=100, ge=1, le=100_000, description="class pictures for each class")
    class_seed: int = Field(default=0, ge=0, lt=2**32, description="seed of the first class picture; the others follow")
    class_steps: int | None = Field(
        default=None, ge=1, description="steps of a class picture; None is the model's default"
    )
    class_guidance_scale: float | None = Field(
        default=None, ge=0, le=1000, description="guidance scale of class pictures; None is the model's default"
    )
    class_scheduler: str | None = Field(
        default=None, description="scheduler of class pictures; None is the model's default"
    )
    class_negative_prompt: str | None = Field(default=None, description="negative prompt of class pictures")
    class_batch: int = Field(default=4, ge=1, le=256, description="class pictures that are drawn together")
    class_cache: str | None = Field(
        default=None,
        description="folder that class pictures are kept in; None is 'class-pictures' in the output folder",
    )

    @property
    def class_request(self) -> dict[str, object]:
        """Fields of the requests for class pictures, as far as they are given."""
        fields = {
            "steps": self.class_steps,
            "guidance_scale": self.class_guidance_scale,
            "scheduler": self.class_scheduler,
            "negative_prompt": self.class_negative_prompt,
        }
        return {name: value for name, value in fields.items() if value is not None}
