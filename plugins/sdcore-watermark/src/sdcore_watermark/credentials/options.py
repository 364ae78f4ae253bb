"""The options of the plugin ``credentials``."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from sdcore import Asset, Options


class Credentials(Options):
    """Sign every file that leaves: PNG, JPEG and WebP with a C2PA manifest inside."""

    locked: ClassVar[bool] = True
    recorded: ClassVar[bool] = False

    certificate: Asset | None = Field(
        default=None, description="PEM file, or env:NAME: the signer's certificate, then those up to the root"
    )
    key: Asset | None = Field(
        default=None,
        description="PEM file of the private key, or env:NAME for a variable that holds it or names its file",
    )
    signer: str | None = Field(
        default=None, description="name of a registered signer (HSM, KMS) instead of certificate and key"
    )
    timestamp_url: str | None = Field(default=None, description="address of a time-stamp authority (RFC 3161)")
    timestamp: Literal["require", "if-possible", "never"] = Field(
        default="if-possible",
        description="when the authority does not answer: require refuses to save, if-possible signs without and warns",
    )
    prompt: Literal["hash", "full", "none"] = Field(
        default="hash",
        description="what the manifest says of the request: settings and the prompt's hash; the full record; no prompt",
    )
    record: Literal["keep", "remove"] = Field(
        default="keep", description="whether the file carries the plain record, prompt and all, beside the manifest"
    )
    training: Literal["notAllowed", "allowed"] = Field(
        default="notAllowed", description="whether others may train on the picture or mine it (cawg.training-mining)"
    )
    store: Asset | None = Field(
        default=None,
        description="folder that keeps manifests by their watermark, so that they are found when a file lost its",
    )
    title: str | None = Field(default=None, max_length=200, description="title in the manifest")
    input_thumbnail: bool = Field(
        default=False,
        description="put a small copy of the input picture into the manifest, for pages that show history",
    )
    latent_output: Literal["refuse", "allow"] = Field(
        default="refuse", description="whether output=latent, which cannot be signed, is allowed"
    )
    previews: Literal["refuse", "allow"] = Field(default="refuse", description="whether unsigned previews may leave")

    @field_validator("timestamp_url")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError(f"timestamp_url is {value!r}; it begins with http:// or https://")
        return value

    @model_validator(mode="after")
    def _fits(self) -> Credentials:
        if self.signer is not None and (self.certificate is not None or self.key is not None):
            raise ValueError("give signer, or certificate and key, not both")
        if self.timestamp == "require" and self.timestamp_url is None:
            raise ValueError("timestamp='require' needs timestamp_url")
        return self

    @property
    def stamps(self) -> str | None:
        """The address that stamps are asked from; None for none."""
        return None if self.timestamp == "never" else self.timestamp_url
