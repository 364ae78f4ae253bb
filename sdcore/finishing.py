"""From a pass's pictures to what leaves: restore, safety, verdicts, watermark, metadata, bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from . import ports
from .calling import broke, call
from .judging import by_severity, judged, withheld
from .order import Plan, Stage
from .passes import fold_images
from .recording import make_record, request_record, unrecorded
from .result import OnePicture, WithheldPicture
from .stages import Picture, RunOutput, SerializeArgs, Verdict

if TYPE_CHECKING:
    from PIL.Image import Image

    from .host import PluginHost
    from .passes import PassState
    from .record import Record
    from .resolve import Uses
    from .run import Run


def finish(
    run: Run, plan: Plan, host: PluginHost, output: RunOutput, state: PassState, uses: Uses, given_image: Any
) -> tuple[list[OnePicture | WithheldPicture], list[int]]:
    """Finish every picture of a batch, in the order of its seeds.

    The order is fixed: restore, safety, verdict, watermark, metadata; bytes and seal when it is saved.

    Returns:
        The pictures, and the places of those that the phase ``safety`` has changed: their latents must not leave.
    """
    assert output.images is not None
    if len(output.images) != len(run.seeds):
        problem = f"it returned {len(output.images)} pictures for {len(run.seeds)} seeds"
        raise broke(plan[ports.whole_run][0], problem)
    request, assets = request_record(run.asked, uses, given_image)
    without = unrecorded(uses)
    encode = _encoder(plan, host, run)
    finished: list[OnePicture | WithheldPicture] = []
    covered: list[int] = []
    for place, image in enumerate(output.images):
        picture = Picture(run.indices[place], run.seeds[place], run)
        restored = fold_images(_phase(plan, "restore"), picture, image)
        image = fold_images(_phase(plan, "safety"), picture, restored)
        if image is not restored and image.tobytes() != restored.tobytes():
            covered.append(place)
        verdicts = _judge(plan, picture, image, state.verdicts[place])
        if withheld(verdicts):
            finished.append(WithheldPicture(picture.seed, picture.index, verdicts))
            continue
        image = fold_images(_phase(plan, "watermark"), picture, image)
        reports = _metadata(plan, picture)
        if verdicts:
            reports.setdefault("sdcore", {})["verdicts"] = [
                {"severity": v.severity, "check": v.check, "reason": v.reason} for v in verdicts
            ]

        def record(place: int = place, reports: dict[str, dict[str, Any]] = reports, image: Image = image) -> Record:
            return make_record(run, plan, host, request, assets, place, reports, image, without)

        finished.append(OnePicture(image, picture.seed, picture.index, reports, verdicts, record, encode))
    return finished, covered


def _phase(plan: Plan, phase: str) -> tuple[Stage, ...]:
    return tuple(stage for stage in plan[ports.image] if stage.phase == phase)


def _judge(plan: Plan, picture: Picture, image: Image, earlier: list[Verdict]) -> tuple[Verdict, ...]:
    return by_severity([*earlier, *(v for stage in plan[ports.judge_image] for v in judged(stage, picture, image))])


def _metadata(plan: Plan, picture: Picture) -> dict[str, dict[str, Any]]:
    merged: dict[str, dict[str, Any]] = {}
    for stage in plan[ports.metadata]:
        found = call(stage, picture)
        if found is None:
            continue
        if not isinstance(found, Mapping):
            raise broke(stage, f"it returned {type(found).__name__}, expected a mapping of JSON values, or None")
        try:
            found = json.loads(json.dumps(dict(found), allow_nan=False))  # as it will be read from the file
        except (TypeError, ValueError, RecursionError) as error:
            raise broke(stage, f"what it returned cannot be written as JSON: {error}") from error
        mine = merged.setdefault(stage.plugin, {})
        for key, value in found.items():
            if key in mine:
                raise broke(stage, f"it gives {key!r} twice")
            mine[key] = value
    return merged


def _encoder(plan: Plan, host: PluginHost, run: Run) -> Any:
    formats = host.registry.all("image_format")

    def encode(image: Image, format: str, record: Record, quality: int) -> bytes:
        from .picture_files import encode_image

        args = SerializeArgs(image, format, record, quality)
        claimed = plan[ports.serialize]
        if claimed:
            data = _bytes(claimed[0], call(claimed[0], args))
        elif format in formats:
            data = _by_plugin(host, format, formats[format], args)
        else:
            data = encode_image(image, format, record, quality=quality)  # type: ignore[arg-type]
        for stage in plan[ports.seal]:
            data = _bytes(stage, call(stage, args, data))
        return data

    return encode


def _by_plugin(host: PluginHost, format: str, write: Any, args: SerializeArgs) -> bytes:
    owner = next(by for kind, name, by in host.registry.owners() if (kind, name) == ("image_format", format))
    port = Stage(ports.serialize, write, owner, host.label(owner))
    return _bytes(port, call(port, args))


def _bytes(stage: Stage, data: Any) -> bytes:
    if not isinstance(data, bytes) or not data:
        raise broke(stage, f"it returned {type(data).__name__}, expected the bytes of a file")
    return data
