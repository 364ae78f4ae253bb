"""What manifests say, for people: facts, and the history as a tree. Everything in them is untrusted text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from sdcore.verifying import Ancestor, Verdict

from .manifest import GENERATION, TRAINING
from .reading import ALTERED, TRUSTED, UNTRUSTED, Manifests, assertion

MAX_DEPTH = 16
MAX_PICTURES = 200


def facts(manifests: Manifests) -> tuple[tuple[str, str], ...]:
    """What the active manifest says, in the order in which a person asks."""
    return tuple((name, str(value)) for name, value in _facts(manifests) if value not in (None, "", [], ()))


def _facts(manifests: Manifests) -> Iterator[tuple[str, Any]]:
    active = manifests.active
    signature = active.get("signature_info", {})
    yield "signed by", signer(active)
    yield "organisation", signature.get("issuer")
    trust = "yes" if manifests.trusted_signer else "no: no root among the anchors vouches for the signer"
    yield "trusted", trust if signature else None
    stamped = signature.get("time")
    vouched = (
        "" if "timeStamp.trusted" in manifests.successes else " (no anchor vouches for the time-stamp's authority)"
    )
    yield "signed at", f"{stamped}{vouched}" if stamped else "not stamped: the time is not proven"
    yield "algorithm", signature.get("alg")
    yield "made with", ", ".join(_agents(active)) or ", ".join(_generators(active))
    made = assertion(active, GENERATION)
    model = made.get("model") or (made.get("record") or {}).get("model") or {}
    yield "model", model.get("source") if isinstance(model, Mapping) else None
    yield "seed", made.get("seed")
    request = (made.get("record") or {}).get("request", {})
    yield "prompt", request.get("prompt") if isinstance(request, Mapping) else None
    yield "prompt sha256", made.get("prompt_sha256")
    yield "safety report", made.get("safety_report_sha256")
    for override in made.get("safety_overrides", ()):
        told = override.items() if isinstance(override, Mapping) else [("", override)]
        yield "safety override", ", ".join(f"{name}: {value}".removeprefix(": ") for name, value in told)
    entries = assertion(active, "cawg.training-mining").get("entries", {})
    uses = {str((entries.get(name) or {}).get("use")) for name in TRAINING if name in entries}
    yield "training", ", ".join(sorted(uses))
    yield "AI disclosure", ", ".join(str(v) for v in assertion(active, "c2pa.ai-disclosure").values())
    yield "watermark", ", ".join(sorted(name for name, _ in manifests.bindings()))
    wrong = [code for code in manifests.failures if code != UNTRUSTED]
    yield "what is wrong", ", ".join(wrong)


def history(manifests: Manifests, title: str, verdict: Verdict) -> tuple[Ancestor, ...]:
    """The picture, and what it was made from, as its manifests tell it."""
    label = str(manifests.store.get("active_manifest"))
    return (_ancestor(manifests, label, str(manifests.active.get("title") or title), verdict, (), [0]),)


def _ancestor(
    manifests: Manifests, label: str, title: str, verdict: Verdict, seen: tuple[str, ...], count: list[int]
) -> Ancestor:
    manifest = manifests.manifest(label)
    count[0] += 1
    parents = []
    for one in manifest.get("ingredients", ()):
        if len(seen) >= MAX_DEPTH or count[0] >= MAX_PICTURES:
            break
        inner, name = str(one.get("active_manifest") or ""), str(one.get("title") or "untitled")
        if inner and inner not in (*seen, label) and manifests.manifest(inner):
            worth = _worth(one, _deltas(manifests, label, one))
            found = _ancestor(manifests, inner, name, worth, (*seen, label), count)
            found = replace(found, thumbnail=_thumbnail(manifests, one) or found.thumbnail)
        else:
            count[0] += 1
            found = Ancestor(name, thumbnail=_thumbnail(manifests, one))
        parents.append(found)
    return Ancestor(
        title,
        verdict,
        signer(manifest),
        tuple(_actions(manifest)),
        str(manifest.get("signature_info", {}).get("time") or ""),
        _thumbnail(manifests, manifest),
        tuple(parents),
    )


def signer(manifest: Mapping[str, Any]) -> str:
    """Who signed a manifest."""
    signature = manifest.get("signature_info", {})
    return str(signature.get("common_name") or signature.get("issuer") or "")


def _worth(ingredient: Mapping[str, Any], deltas: Mapping[str, set[str]]) -> Verdict:
    """What an ingredient's credential was worth to whoever signed, corrected by what is otherwise here."""
    results = (ingredient.get("validation_results") or {}).get("activeManifest", {})
    told = {kind: {str(one.get("code")) for one in results.get(kind, ())} for kind in ("success", "failure")}
    failures = told["failure"] | deltas["failure"]
    trusted = TRUSTED in deltas["success"] or (TRUSTED in told["success"] and UNTRUSTED not in deltas["failure"])
    wrong = failures - {UNTRUSTED}
    if wrong:
        return "altered" if wrong <= ALTERED else "invalid"
    return "trusted" if trusted else "valid-untrusted"


def _deltas(manifests: Manifests, label: str, ingredient: Mapping[str, Any]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {"success": set(), "failure": set()}
    inner = str(ingredient.get("active_manifest"))
    for one in (manifests.store.get("validation_results") or {}).get("ingredientDeltas") or ():
        for kind, codes in found.items():
            for status in (one.get("validationDeltas") or {}).get(kind, ()):
                if inner in str(status.get("url")):
                    codes.add(str(status.get("code")))
    return found


def _thumbnail(manifests: Manifests, owner: Mapping[str, Any]) -> bytes:
    return manifests.thumbnails.get(str((owner.get("thumbnail") or {}).get("identifier")), b"")


def _actions(manifest: Mapping[str, Any]) -> Iterator[str]:
    for label in ("c2pa.actions.v2", "c2pa.actions"):
        for action in assertion(manifest, label).get("actions", ()):
            if not isinstance(action, Mapping):
                continue
            source = str(action.get("digitalSourceType") or "").rpartition("/")[2]
            about = (action.get("parameters") or {}).get("description")
            name = str(action.get("action", "")).removeprefix("c2pa.")
            yield name + (f" ({source})" if source else "") + (f": {about}" if about else "")


def _agents(manifest: Mapping[str, Any]) -> list[str]:
    agents = assertion(manifest, "c2pa.actions.v2").get("softwareAgents", ())
    return [f"{a.get('name')} {a.get('version', '')}".strip() for a in agents if isinstance(a, Mapping)]


def _generators(manifest: Mapping[str, Any]) -> list[str]:
    found = manifest.get("claim_generator_info") or ()
    return [f"{one.get('name')} {one.get('version', '')}".strip() for one in found if isinstance(one, Mapping)]
