"""Run inside a fresh environment: a package's modules are imported, and its plugins take part in an engine.

python probe.py sdcore_lora lora
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil


def main() -> None:
    """Fail if anything of the packages cannot be used as it is installed."""
    parser = argparse.ArgumentParser()
    for flag in ("--packages", "--plugins", "--optional"):
        parser.add_argument(flag, nargs="*", default=[])
    args = parser.parse_args()
    for package in args.packages:
        import_all(package, args.optional)
    take_part(args.plugins)
    print("ok")


def import_all(name: str, optional: list[str]) -> None:
    """Import every module of a package; one may miss what only an extra of the package brings."""
    package = importlib.import_module(name)
    assert "site-packages" in (package.__file__ or ""), f"{name} is not installed: {package.__file__}"
    for found in pkgutil.walk_packages(package.__path__, f"{name}.", onerror=lambda _: None):
        if found.name.endswith("__main__"):
            continue
        try:
            importlib.import_module(found.name)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in optional:
                raise


def take_part(plugins: list[str]) -> None:
    """Load an engine with these plugins, and draw."""

    from sdcore import Engine
    from sdcore.testing.tiny import tiny_folder

    with Engine.load(tiny_folder("sd1"), plugins=plugins) as engine:
        for name in plugins:
            assert engine.host.records[name].error is None, engine.host.records[name].error
        engine.generate("a red apple", seed=1, steps=1, height=32, width=32).image.load()


if __name__ == "__main__":
    main()
