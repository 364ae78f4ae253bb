"""What a manifest says: plain data, made from a record.

The vocabulary is that of C2PA 2.x, of CAWG training and data mining 1.1, and of IPTC.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import Any

from .signing import PARENT

DRAWN = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
REDRAWN = "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia"
GENERATION = "org.sdcore.generation"
TRAINING = ("cawg.ai_training", "cawg.ai_generative_training", "cawg.data_mining")
SETTINGS = ("steps", "scheduler", "guidance_scale", "strength", "width", "height", "eta", "clip_skip")


def definition(
    record: Mapping[str, Any],
    record_json: str,
    *,
    agents: Mapping[str, str],
    prompt: str = "hash",
    training: str = "notAllowed",
    title: str | None = None,
    parent: bool = False,
    from_latents: bool = False,
) -> dict[str, Any]:
    """The manifest of a picture, as c2pa's Builder takes it.

    Args:
        record: the record as JSON values.
        record_json: the record as it travels in the picture.
        agents: name to version of the software that drew it: sdcore first, then packages of plugins.
        prompt: "hash", "full" or "none".
        training: "allowed" or "notAllowed".
        title: of the picture.
        parent: whether it was made from a picture, which is the ingredient named ``parent``.
        from_latents: whether it was made from latents, of which nothing is known.
    """
    mark = record["metadata"].get("watermark", {})
    bound = binding(mark)
    actions = _opened(record) if parent else _created(from_latents)
    names = list(agents)
    assertions = []
    if bound is not None:
        assertions.append({"label": "c2pa.soft-binding", "data": bound})
    if mark.get("scheme") and "unmarked" not in mark:
        # Without a payload nothing can be looked up by the mark, so it binds nothing.
        action: dict[str, Any] = {"action": f"c2pa.watermarked.{'bound' if bound else 'unbound'}"}
        if "sdcore-watermark" in names:
            action["softwareAgentIndex"] = names.index("sdcore-watermark")
        actions.append(action)
    software = [{"name": name, "version": version} for name, version in agents.items()]
    assertions += [
        {"label": "c2pa.actions.v2", "data": {"actions": actions, "softwareAgents": software}},
        {"label": "cawg.training-mining", "data": {"entries": {name: {"use": training} for name in TRAINING}}},
        {"label": "c2pa.ai-disclosure", "data": _disclosure(record)},
        {"label": GENERATION, "data": generation(record, record_json, prompt)},
    ]
    made: dict[str, Any] = {"claim_generator_info": [software[0]], "assertions": assertions}
    return made if title is None else {**made, "title": title}


def generation(record: Mapping[str, Any], record_json: str, prompt: str = "hash") -> dict[str, Any]:
    """The assertion ``org.sdcore.generation``: how the picture was made.

    ``full`` has the record itself. Otherwise options of plugins and what plugins report are left out, because they may
    hold words of the user too. A hash of a prompt hides it from whoever cannot guess it, and from nobody else;
    ``none`` leaves out every hash that a guess could be checked against.
    """
    made: dict[str, Any] = {"version": 1, "seed": record["seed"], "pixels_sha256": record["pixels_sha256"]}
    safety = record["metadata"].get("safety", {})
    if isinstance(safety.get("report_sha256"), str):
        made["safety_report_sha256"] = safety["report_sha256"]
        if safety.get("overrides"):
            made["safety_overrides"] = safety["overrides"]
    if prompt == "full":
        return {**made, "record": dict(record)}
    asked = {**record["request"], **record["changes"]}
    made["software"] = dict(record["software"])
    made["model"] = {name: record["model"][name] for name in ("family", "source", "components")}
    made["settings"] = {name: asked[name] for name in SETTINGS if asked.get(name) is not None}
    made["plugins"] = sorted({entry["plugin"] for entry in record["request"].get("use", ())})
    if prompt == "hash":
        made["record_sha256"] = sha256(record_json)
        for name in ("prompt", "negative_prompt"):
            if asked.get(name):
                made[f"{name}_sha256"] = sha256(str(asked[name]))
    return made


def binding(mark: Mapping[str, Any]) -> dict[str, Any] | None:
    """The soft-binding assertion for what the plugin ``watermark`` reports; None if its mark bears no payload."""
    scheme, key_id, payload = (mark.get(name) for name in ("scheme", "key_id", "payload"))
    if not (isinstance(scheme, str) and _hex(key_id) and _hex(payload)) or "unmarked" in mark:
        return None
    return {"alg": algorithm(scheme), "blocks": [{"scope": {}, "value": bound_value(str(key_id), str(payload))}]}


def algorithm(scheme: str) -> str:
    """Name of the soft-binding algorithm of a watermark scheme."""
    return f"org.sdcore.watermark.{scheme}.1"


def bound_value(key_id: str, payload: str) -> str:
    """What a soft binding holds: the bytes of key id and payload, in base64."""
    return base64.b64encode(bytes.fromhex(key_id) + bytes.fromhex(payload)).decode()


def sha256(text: str) -> str:
    """SHA-256 of a text in UTF-8, in hex."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _created(from_latents: bool) -> list[dict[str, Any]]:
    what = "continued from latents of unknown origin" if from_latents else "drawn by a model"
    return [
        {
            "action": "c2pa.created",
            "digitalSourceType": DRAWN,
            "softwareAgentIndex": 0,
            "parameters": {"description": what},
        }
    ]


def _opened(record: Mapping[str, Any]) -> list[dict[str, Any]]:
    used = {entry["plugin"] for entry in record["request"].get("use", ())}
    what = "a part was drawn anew" if "inpaint" in used else "drawn anew after a picture"
    what = "more was drawn around it" if "outpaint" in used else what
    return [
        {"action": "c2pa.opened", "softwareAgentIndex": 0, "parameters": {"ingredientIds": [PARENT]}},
        {
            "action": "c2pa.edited",
            "digitalSourceType": REDRAWN,
            "softwareAgentIndex": 0,
            "parameters": {"description": what},
        },
    ]


def _disclosure(record: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "modelType": "c2pa.types.model.pytorch",
        "modelName": record["model"]["source"],
        "humanOversightLevel": "prompt_guided",
    }


def _hex(value: Any) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(r"(?:[0-9a-f]{2}){1,32}", value))
