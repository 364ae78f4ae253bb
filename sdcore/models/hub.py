"""Models on the Hugging Face hub: weights as safetensors, configurations and vocabularies; nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath

from sdcore.errors import ModelError

COMPONENTS = ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")
_TIMEOUT = 10.0  # seconds; one attempt


def is_hub_id(source: str) -> bool:
    """Whether a text has the form of a hub id, "owner/name"."""
    return re.fullmatch(r"[\w.-]+/[\w.-]+", source) is not None and not source.startswith(".")


def fetch(source: str) -> Path:
    """The folder or the file of a hub model: from the local cache if it is complete there, else downloaded.

    Raises:
        ModelError: the hub cannot be reached, the model is not there, or it has no usable weights.
    """
    cached = _cached(source)
    if cached is not None:
        return cached
    wanted: list[str] = []

    def choose(source: str, names: Iterable[str]) -> list[str]:
        wanted[:] = choose_files(source, names)
        return wanted

    top = _download(source, choose)
    return top if "model_index.json" in wanted else top / wanted[0]


def _download(source: str, choose: Callable[[str, Iterable[str]], list[str]]) -> Path:
    """The local folder of a hub repository, with the files that ``choose`` names among all of them."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    try:
        info = HfApi().model_info(source, timeout=_TIMEOUT)
        wanted = choose(source, [entry.rfilename for entry in info.siblings or ()])
        return Path(snapshot_download(source, revision=info.sha, allow_patterns=wanted))
    except ModelError:
        raise
    except GatedRepoError as error:
        raise ModelError(
            f"{source}: its owners ask you to accept their terms first, on https://huggingface.co/{source}; "
            "then log in with `hf auth login`"
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(f"{source}: no such folder here, and no such model on the hub") from error
    except Exception as error:
        raise ModelError(
            f"{source}: no such folder here, and the hub cannot be reached "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no details'}). "
            "Check the path, or the network; or name a folder or a .safetensors file."
        ) from error


def fetch_component(source: str) -> Path:
    """The folder of a hub repository that holds one network: a configuration and safetensors weights.

    Raises:
        ModelError: as of :func:`fetch`.
    """
    return _download(source, _choose_component)


def fetch_file(source: str, name: str) -> Path:
    """One .safetensors file of a hub repository.

    Raises:
        ModelError: as of :func:`fetch`; it is not among the repository's files.
    """

    def choose(source: str, names: Iterable[str]) -> list[str]:
        names = [found for found in names if found.endswith(".safetensors")]
        if name not in names:
            raise ModelError(
                f"{source}: has no file {name}; it has {', '.join(sorted(names)[:10]) or 'no safetensors'}"
            )
        return [name]

    return _download(source, choose) / name


def _choose_component(source: str, names: Iterable[str]) -> list[str]:
    top = [name for name in names if "/" not in name]
    weights = sorted(name for name in top if name.endswith(".safetensors"))
    plain = [name for name in weights if _variant(name) is None]
    if not weights:
        raise ModelError(f"{source}: has no safetensors weights on the hub")
    return [
        *(plain or [name for name in weights if _variant(name) == "fp16"] or weights),
        *(n for n in top if n.endswith(".json")),
    ]


def choose_files(source: str, names: Iterable[str]) -> list[str]:
    """Which files of a repository to fetch: each weight once, the plain one before a variant such as fp16.

    Raises:
        ModelError: there are no safetensors weights that could be a model.
    """
    names = sorted(names)
    if "model_index.json" not in names:
        single = [name for name in names if name.endswith(".safetensors") and "/" not in name]
        if len(single) != 1:
            raise ModelError(
                f"{source}: has no model_index.json, and {len(single)} .safetensors files instead of one; "
                "download the file that you want and name its path"
            )
        return single
    chosen = [name for name in names if name in ("model_index.json", "sdcore.json")]
    for component in COMPONENTS:
        inside = [name for name in names if PurePosixPath(name).parts[:1] == (component,)]
        weights = [name for name in inside if name.endswith(".safetensors")]
        plain = [name for name in weights if _variant(name) is None]
        half = [name for name in weights if _variant(name) == "fp16"]
        chosen += plain or half or weights
        chosen += [name for name in inside if name.endswith((".json", ".txt"))]
        if inside and component not in ("tokenizer", "tokenizer_2", "scheduler") and not weights:
            raise ModelError(f"{source}: {component} has no safetensors weights on the hub, only pickles")
    return chosen


def _variant(name: str) -> str | None:
    """The part between the stem and the ending: "fp16" in "model.fp16.safetensors"."""
    parts = PurePosixPath(name).name.split(".")
    if len(parts) < 3:
        return None
    return re.sub(r"-\d{5}-of-\d{5}$", "", parts[1])


def _cached(source: str) -> Path | None:
    """The folder in the local cache, if every component that its model_index.json names has its files."""
    from huggingface_hub import try_to_load_from_cache

    index = try_to_load_from_cache(source, "model_index.json")
    if not isinstance(index, str):
        return None
    top = Path(index).parent
    named = json.loads(Path(index).read_text(encoding="utf-8"))
    for name in COMPONENTS:
        entry = named.get(name)
        if not isinstance(entry, list) or entry[0] is None:
            continue
        needed = "*.safetensors" if name in ("unet", "vae") or name.startswith("text") else "*.*"
        if not any((top / name).glob(needed)):
            return None
    return top
