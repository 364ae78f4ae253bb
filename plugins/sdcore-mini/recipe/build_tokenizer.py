"""Build the tokenizer of the embedded model: ``python build_tokenizer.py --data FOLDER --out FOLDER``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

from mini_recipe import bpe, icons, sources


def captions_of(folder: Path) -> list[str]:
    """All captions of a data set."""
    with (folder / "metadata.jsonl").open(encoding="utf-8") as lines:
        return [caption for line in lines for caption in json.loads(line)["captions"]]


def annotation_texts(cache: Path) -> Iterator[str]:
    """All English names and keywords of emojibase and CLDR."""
    entries, _, annotations = icons.emoji_tables(cache)
    for entry in entries:
        yield from (entry["label"], *entry.get("tags", ()))
    for notes in annotations.values():
        yield from (*notes.get("tts", ()), *notes.get("default", ()))


def main(arguments: list[str] | None = None) -> int:
    """Parse the arguments, train, save, and print figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder that build_data.py made")
    parser.add_argument("--out", type=Path, required=True, help="folder of the tokenizer; must be empty or absent")
    parser.add_argument("--vocabulary", type=int, default=6000, help="number of tokens, at least 600")
    parser.add_argument("--window", type=int, default=32, help="tokens of a prompt, with start and end")
    parser.add_argument("--cache", type=Path, default=sources.default_cache(), help="packages of names and keywords")
    options = parser.parse_args(arguments)
    if not (options.data / "metadata.jsonl").is_file():
        parser.error(f"--data {options.data} has no metadata.jsonl; build it with build_data.py")
    if options.out.exists() and (not options.out.is_dir() or any(options.out.iterdir())):
        parser.error(f"--out {options.out} exists and is not an empty folder; remove it or name another")
    if options.vocabulary < 600 or options.window < 8:
        parser.error("--vocabulary must be at least 600 and --window at least 8")
    texts = captions_of(options.data)
    try:
        counted = bpe.weights(texts, annotation_texts(options.cache))
    except sources.SourceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    tokenizer = bpe.save(bpe.merges(counted, options.vocabulary - 514), options.out, options.window)
    distinct = sorted(set(texts))
    lengths = [len(ids) for ids in tokenizer(distinct, truncation=False, padding=False)["input_ids"]]
    whole = sum(len(tokenizer.tokenize(word)) == 1 for word in counted)
    print(
        {
            "vocabulary": len(tokenizer),
            "words": len(counted),
            "words that are one token": whole,
            "distinct captions": len(distinct),
            "longest caption": max(lengths),
            "captions cut by the window": sum(length > options.window for length in lengths),
        }
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
