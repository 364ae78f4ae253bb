"""New plugins, copied from a plugin that works: the template, with its names replaced.

The template is `plugin_template/` of the repository, and a copy of it in the wheel. Nothing in it is marked up: it is
an ordinary package, installed and tested as it stands, and every occurrence of its name is a name to replace.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import keyword
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .discovery import GROUP
from .errors import OutputError, RequestError
from .files import write_atomic
from .plugin_class import NAME, RESERVED

LONGEST = 30
"""With it, no line of the template becomes longer than 120 characters."""
_TEMPLATE = "template"
_NO_COPY = ("__pycache__", ".pytest_cache", ".mypy_cache", ".ruff_cache", "build", "dist", ".venv")
_TEXT = (".py", ".md", ".toml", ".yml")


@dataclass(frozen=True)
class Names:
    """The names of a plugin, all made from the first.

    Attributes:
        plugin: entry point, and what users write in ``use``: ``my-glow``.
    """

    plugin: str

    @property
    def distribution(self) -> str:
        """``sdcore-my-glow``."""
        return f"sdcore-{self.plugin}"

    @property
    def module(self) -> str:
        """``sdcore_my_glow``."""
        return self.distribution.replace("-", "_")

    @property
    def options(self) -> str:
        """``MyGlow``; the plugin class is ``MyGlowPlugin``."""
        return "".join(part.capitalize() for part in self.plugin.split("-"))

    def put_into(self, text: str) -> str:
        """A text, or a path, of the template with these names in place of its own."""
        snake = self.plugin.replace("-", "_")
        return (
            text.replace(f"{_TEMPLATE}.py", f"{snake}.py")
            .replace(_TEMPLATE.capitalize(), self.options)
            .replace(f"_{_TEMPLATE}", f"_{snake}")
            .replace(_TEMPLATE, self.plugin)
        )


def check_name(name: str) -> Names:
    """The names for a new plugin.

    Raises:
        RequestError: the name cannot be one, or an installed plugin has it.
    """
    if name.startswith("sdcore-"):
        raise RequestError(f"{name!r} has the package's prefix, which is added by itself: sdcore new {name[7:]}")
    if not name[:1].isalpha() or not NAME.fullmatch(name):
        raise RequestError(
            f"{name!r} cannot name a plugin: it takes lower-case letters, digits and single hyphens, and starts with a "
            f"letter{_suggestion(name)}"
        )
    if len(name) > LONGEST:
        raise RequestError(f"{name!r} has {len(name)} characters; a plugin's name has {LONGEST} at most")
    names = Names(name)
    if name in (*RESERVED, _TEMPLATE):
        raise RequestError(f"{name!r} means something else to sdcore; choose another name")
    if keyword.iskeyword(name.replace("-", "_")) or keyword.iskeyword(names.options):
        raise RequestError(f"{name!r} is a word of Python's own; choose another name")
    if names.options in _taken_by_the_template():
        raise RequestError(f"{name!r} would name a class {names.options}, as another is called; choose another name")
    for entry in importlib.metadata.entry_points(group=GROUP):
        if entry.name == name:
            owner = f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
            raise RequestError(f"plugin {name!r} exists: {owner} is installed; choose another name, or uninstall it")
    return names


def new_package(names: Names, out: str | os.PathLike[str] | None = None, author: str | None = None) -> Path:
    """Write a plugin as a package.

    It is written into a temporary folder beside its place, which is then given the name: under the name there is
    either all of it or nothing.

    Args:
        names: see :func:`check_name`.
        out: the new folder; or a folder that exists, or a name that ends in /, to write ``sdcore-NAME`` in.
        author: ``"Name"`` or ``"Name <mail@example.org>"``.

    Returns:
        The folder.

    Raises:
        OutputError: the folder exists, or cannot be written.
        RequestError: the author cannot be read.
    """
    target = _place(out, names.distribution)
    authors = _author(author) if author is not None else None
    source = template_folder()
    temporary = target.parent / f".sdcore-{secrets.token_hex(8)}.tmp"
    try:
        temporary.mkdir()
        for path in _files(source):
            to = temporary / names.put_into(path.relative_to(source).as_posix())
            to.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix not in _TEXT:
                shutil.copyfile(path, to)
                continue
            text = path.read_text(encoding="utf-8")
            if authors is not None and path.name == "pyproject.toml":
                text = re.sub(r"^authors = .*$", lambda _: f"authors = [{authors}]", text, count=1, flags=re.MULTILINE)
            to.write_text(names.put_into(text) if authors is None else _around(authors, names, text), encoding="utf-8")
        # On POSIX an empty folder that somebody made meanwhile is replaced, one with files in it is not.
        temporary.rename(target)
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):
            shutil.rmtree(temporary)
    return target


def new_file(names: Names, out: str | os.PathLike[str] | None = None) -> Path:
    """Write a plugin as one file, which ``--plugin FILE`` loads without packaging.

    Args:
        names: see :func:`check_name`.
        out: the file, ending in .py; or a folder that exists, or a name that ends in /, to write ``NAME.py`` in.

    Returns:
        The file.

    Raises:
        OutputError: the file exists, or cannot be written.
    """
    target = _place(out, names.put_into(f"{_TEMPLATE}.py"))
    if target.suffix != ".py":
        raise OutputError(f"{target} is to be a Python file: end its name in .py")
    source = Path(__file__).with_name("cli") / "template_file.py"
    return write_atomic(target, names.put_into(source.read_text(encoding="utf-8")).encode())


def template_folder() -> Path:
    """Where the template lies: in the installed package, or beside it in a checkout.

    Raises:
        OutputError: in neither place.
    """
    package = Path(__file__).parent
    for folder in (package / "_template", package.parent / "plugin_template"):
        if (folder / "src" / "sdcore_template" / "__init__.py").is_file():
            return folder
    raise OutputError(f"the template is missing from {package}: install sdcore again, or use --single-file")


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not set(path.relative_to(folder).parts) & set(_NO_COPY):
            yield path


def _place(out: str | os.PathLike[str] | None, name: str) -> Path:
    text = "." if out is None else os.fspath(out)
    # Where something of the wanted name lies already, out is not taken for the folder to write it in.
    inside = text.endswith(("/", os.sep)) or out is None or (Path(text).is_dir() and Path(text).name != name)
    target = Path(text) / name if inside else Path(text)
    if target.exists() or target.is_symlink():
        raise OutputError(f"{target} exists already: choose another place with --out, or another name")
    if not target.parent.is_dir():
        raise OutputError(f"there is no folder {target.parent}: make it, or choose another place with --out")
    return target


def _author(author: str) -> str:
    found = re.fullmatch(r"\s*([^<>]*?)\s*(?:<\s*([^<>@\s]+@[^<>@\s]+)\s*>)?\s*", author)
    if found is None or not found[1] or not author.isprintable():
        raise RequestError(f'--author {author!r} cannot be read; write it as "Name" or "Name <mail@example.org>"')
    # A JSON string of printable characters is a TOML string.
    fields = [f"name = {json.dumps(found[1], ensure_ascii=False)}"]
    fields += [f"email = {json.dumps(found[2], ensure_ascii=False)}"] if found[2] else []
    return f"{{ {', '.join(fields)} }}"


def _around(kept: str, names: Names, text: str) -> str:
    """As :meth:`Names.put_into`, leaving a passage as it is: an author may be called as the template is."""
    return kept.join(names.put_into(part) for part in text.split(kept))


def _taken_by_the_template() -> frozenset[str]:
    """Names of classes that the template imports, which its own class would hide."""
    source = (Path(__file__).with_name("cli") / "template_file.py").read_text(encoding="utf-8")
    source += (template_folder() / "src" / "sdcore_template" / "__init__.py").read_text(encoding="utf-8")
    imports = re.findall(r"^(?:from|import) .*$", source, re.MULTILINE)
    return frozenset(re.findall(r"\b[A-Z]\w+", " ".join(imports))) | {"Engine", "GenerateRequest", "Iterator"}


def _suggestion(name: str) -> str:
    kebab = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name).lower()
    kebab = re.sub(r"[^a-z0-9]+", "-", kebab).strip("-")
    return f". Did you mean {kebab!r}?" if kebab[:1].isalpha() and NAME.fullmatch(kebab) else ""
