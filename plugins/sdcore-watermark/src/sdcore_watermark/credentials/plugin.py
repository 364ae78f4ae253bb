"""The plugin ``credentials``: seals the bytes of what leaves."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, ClassVar

from sdcore import (
    Access,
    Change,
    Contributions,
    Options,
    OutputError,
    Plugin,
    Problem,
    Registry,
    RequestError,
    Run,
    Verifier,
    hookimpl,
    ports,
)
from sdcore.stash import StateKey

from .options import Credentials

if TYPE_CHECKING:
    from sdcore.stages import SerializeArgs

    from .signers import Signer
    from .signing import Parent


@dataclass(frozen=True)
class Prepared:
    """What a run's seal needs, made before anything is computed."""

    signer: Signer
    parent: Parent | None
    from_latents: bool


PREPARED: StateKey[Prepared] = StateKey("prepared")


class CredentialsPlugin(Plugin):
    """Signs files after everything else has been done to them."""

    name: ClassVar[str] = "credentials"
    options: ClassVar[type[Options]] = Credentials
    access: ClassVar[Access] = Access(
        network=True,
        files=("read", "write"),
        when="network: only where timestamp_url is given; writes: into the folder given as store",
    )

    def __init__(self) -> None:
        self._tried: set[tuple[str, str | None, str | None]] = set()
        self._lock = threading.Lock()

    @hookimpl
    def register(self, registry: Registry) -> None:
        """Add the command and the verifier, by name: they are imported when they are used."""
        here = "sdcore_watermark.credentials.verifier"
        about = "content credentials (C2PA): signature, trust, integrity, history"
        registry.add("verifier", "credentials", Verifier(f"{here}:check", f"{here}:VerifyCredentials", about))
        registry.add("cli_command", "credentials", fill)

    @hookimpl
    def plan(self, run: Run) -> Iterable[Problem | Change]:
        """Find everything that would keep the files from being signed."""
        if run.outer is not None:
            return []
        options = _options(run)
        found: list[Problem | Change] = [] if options.previews == "allow" else [Change(previews=False)]
        if run.request.output == "latent" and options.latent_output == "refuse":
            found.append(
                Problem("output='latent' cannot be signed: ask for images, or set latent_output='allow' of credentials")
            )
        if options.store is not None and "watermark" not in run.plugins:
            found.append(
                Problem(
                    "credentials keep manifests in a store by the picture's watermark: use the plugin watermark too"
                )
            )
        try:
            signer, problems = self._signer(options, run)
            found += [Problem(problem) for problem in problems]
            if options.store is not None:
                from .store import Store

                Store(options.store).prepare()
            if PREPARED not in run.state:
                run.state[PREPARED] = Prepared(signer, _parent(run, options), hasattr(run.asked.image, "detach"))
        except (RequestError, OutputError) as error:
            found.append(Problem(str(error)))
        return found

    @hookimpl
    def output(self, run: Run) -> Contributions:
        """The seal; who signs, for the report; and the file without the plain record, if that is asked for."""
        if run.outer is not None:
            return None
        from .certificates import signer_name

        options, prepared = _options(run), run.state[PREPARED]
        seal = ports.seal(lambda args, data: _seal(run, options, prepared, args, data))
        told = {"signer": signer_name(prepared.signer.certificates), "algorithm": prepared.signer.algorithm}
        found = [seal, ports.metadata(lambda _: told)]
        return found if options.record == "keep" else [*found, ports.serialize(_without_record)]

    def _signer(self, options: Credentials, run: Run) -> tuple[Signer, list[str]]:
        """The signer, and why it cannot sign. It signs something tiny once per engine: keys, HSMs and authorities that
        do not work are found before anything is computed."""
        from .extra import needed
        from .signers import find_signer
        from .signing import try_out

        needed("c2pa")
        signer = find_signer(options, run.registry.all("credential_signer"))
        problems = signer.check()
        if problems:
            return signer, problems
        url = options.stamps if options.timestamp == "require" else None
        once = (signer.certificates, options.signer, url)  # the key has been compared with the certificate
        with self._lock:
            if once not in self._tried:
                refused = try_out(signer, url)
                if refused is not None:
                    return signer, [refused]
                self._tried.add(once)
        return signer, []


def fill(parser: Any) -> None:
    """Sign pictures, make a chain for trying that out, and show what a picture's manifests say."""
    from .commands import fill as fill_parser

    fill_parser(parser)


def _options(run: Run) -> Credentials:
    found = run.uses(Credentials)
    if len(found) > 1:
        raise RequestError(f"credentials are used {len(found)} times in one run; a file has one seal: keep one of them")
    return found[0]


def _parent(run: Run, options: Credentials) -> Parent | None:
    loaded = run.asked.image
    if not hasattr(loaded, "convert"):
        return None
    from .parents import parent_of, small

    parent = parent_of(run.given_image, loaded)
    return replace(parent, thumbnail=small(loaded)) if options.input_thumbnail else parent


def _without_record(args: SerializeArgs) -> bytes:
    from sdcore.picture_files import encode_image

    _mime_type(args.format)
    return encode_image(args.image, args.format, None, quality=args.quality)  # type: ignore[arg-type]


def _mime_type(format: str) -> str:
    from .signing import MIME_TYPES

    if format not in MIME_TYPES:
        raise OutputError(f"files of the format {format!r} are not signed: save as {', '.join(MIME_TYPES)}")
    return MIME_TYPES[format]


def _seal(run: Run, options: Credentials, prepared: Prepared, args: SerializeArgs, data: bytes) -> bytes:
    from .manifest import binding, definition
    from .signing import sign

    mime_type, record = _mime_type(args.format), args.record
    made = definition(
        record.model_dump(mode="json"),
        record.to_json(),
        agents=agents(record.software),
        prompt=options.prompt,
        training=options.training,
        title=options.title,
        parent=prepared.parent is not None,
        from_latents=prepared.from_latents,
    )
    signed = sign(data, mime_type, made, prepared.signer, prepared.parent, options.timestamp_url, options.timestamp)
    if signed.unstamped:
        run.warn(f"signed without a time-stamp: {signed.unstamped}")
    if options.store is not None:
        from .store import Store

        mark = record.metadata.get("watermark", {})
        if binding(mark) is not None:
            Store(options.store).add(mark["key_id"], mark["payload"], signed.manifest)
        else:
            run.warn("a manifest is not kept in the store: the picture's watermark bears no payload to find it by")
    return signed.data


def agents(software: Any) -> dict[str, str]:
    """sdcore, and the packages of plugins, among a record's software: name to version."""
    from sdcore.recording import LIBRARIES

    found = {"sdcore": str(software.get("sdcore", "?"))}
    found |= {name: value for name, value in sorted(software.items()) if name not in LIBRARIES}
    try:
        found.setdefault("sdcore-watermark", version("sdcore-watermark"))
    except PackageNotFoundError:
        found.setdefault("sdcore-watermark", "?")
    return found
