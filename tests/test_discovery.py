"""Discovery: installed plugins of every kind of brokenness, and engines that share nothing."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sdcore import ConflictError, Options, Plugin, PluginLoadError, RequestError, Use, hookimpl, host
from sdcore.discovery import discover
from sdcore.host import PluginHost
from sdcore.registry import Registry
from sdcore.resolve import resolve_uses

GOOD = """
from sdcore import Options, Plugin, hookimpl, ports
class {title}Options(Options):
    amount: float = 0.5
class {title}(Plugin):
    name = "{name}"
    options = {title}Options
    @hookimpl
    def step(self, run):
        return ports.latents_out(lambda step, latents: None)
"""
Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Write distributions: name, code, version, what they require."""
    monkeypatch.delenv("SDCORE_DISABLE", raising=False)
    monkeypatch.setattr(host, "_reported", set())
    monkeypatch.syspath_prepend(str(tmp_path))
    modules: list[str] = []

    def write(
        name: str,
        code: str | None = None,
        *,
        dist: str = "",
        target: str = "",
        requires: str = "sdcore",
        version: str = "1.0",
    ) -> None:
        dist = dist or f"sdcore-{name}"
        title = name.title().replace("-", "")
        module = f"fake_{dist.replace('-', '_')}"
        modules.append(module)
        source = GOOD if code is None else code
        (tmp_path / f"{module}.py").write_text(
            textwrap.dedent(source).replace("{title}", title).replace("{name}", name)
        )
        info = tmp_path / f"{dist.replace('-', '_')}-{version}.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {dist}\nVersion: {version}\n"
            + "".join(f"Requires-Dist: {text}\n" for text in requires.split(";;") if text)
        )
        (info / "entry_points.txt").write_text(f"[sdcore.plugins]\n{name} = {module}:{target or title}\n")

    yield write
    for module in modules:
        sys.modules.pop(module, None)


def records(only: Any = None) -> dict[str, Any]:
    return {record.name: record for record in discover(only)}


FAULTS: dict[str, tuple[dict[str, Any], str]] = {
    "import": ({"code": "import package_that_does_not_exist"}, "its import failed: ModuleNotFoundError: No module"),
    "syntax": ({"code": "class Broken(:"}, "its import failed: SyntaxError"),
    "raises": ({"code": "raise RuntimeError('no licence')"}, "its import failed: RuntimeError: no licence"),
    "exits the process": ({"code": "import sys; sys.exit(3)"}, "its import failed: SystemExit: 3"),
    "attribute": ({"target": "Missing"}, "its import failed: AttributeError"),
    "instance": (
        {"code": GOOD + "\nthing = {title}()", "target": "thing"},
        "must name the Plugin subclass itself, not an",
    ),
    "function": ({"code": "def {title}(): ...", "target": ""}, "must name the Plugin subclass itself"),
    "other class": ({"code": "class {title}: name = '{name}'"}, "is not a subclass of sdcore.Plugin"),
    "other name": ({"code": GOOD.replace('"{name}"', '"other"')}, "name is 'other', but its entry point is 'broken'"),
    "options": (
        {"code": GOOD.replace("options = {title}Options", "options = dict")},
        "must be a subclass of sdcore.Options",
    ),
    "dataclass": (
        {"code": GOOD.replace("class {title}(P", "from dataclasses import dataclass\n@dataclass\nclass {title}(P")},
        "must hash by identity: do not make it a dataclass",
    ),
    "async": ({"code": GOOD.replace("def step", "async def step")}, "step is async; hooks are plain functions"),
    "async generator": (
        {"code": GOOD.replace("def step", "async def step").replace("return ports", "yield ports")},
        "step is async; hooks are plain functions",
    ),
    "unmarked": ({"code": GOOD.replace("@hookimpl", "")}, "step has a hook's name but is not marked with @hookimpl"),
    "attribute for a hook": (
        {"code": GOOD.replace("options = {title}Options", "weights = 3")},
        "weights has a hook's name but is not marked",
    ),
    "unknown hook": (
        {"code": GOOD.replace("def step", "def stepp")},
        "stepp is marked with @hookimpl, but there is no such hook. Did you mean 'step'?",
    ),
    "wrong parameter": (
        {"code": GOOD.replace("(self, run)", "(self, runn)")},
        r"step takes (self, runn); it must take (self, run)",
    ),
    "defaulted parameter": (
        {"code": GOOD.replace("(self, run)", "(self, run, extra=None)")},
        r"step takes (self, run, extra); it must take (self, run)",
    ),
    "wrapper": (
        {"code": GOOD.replace("@hookimpl", "@hookimpl(wrapper=True)").replace("return ports", "yield ports")},
        "marked with @hookimpl(wrapper=...); order the stages with before= and after= instead",
    ),
    "tryfirst": (
        {"code": GOOD.replace("@hookimpl", "@hookimpl(tryfirst=True)")},
        "marked with @hookimpl(tryfirst=...)",
    ),
    "too old": ({"requires": "sdcore<0.0.1"}, "it needs sdcore<0.0.1, but sdcore 0.1"),
    "too new": ({"requires": "torch;;sdcore>=99"}, "it needs sdcore>=99, but sdcore 0.1"),
    "init": ({"code": GOOD + "    def __init__(self, size): ...\n"}, "it failed to start: TypeError"),
    "register": (
        {"code": GOOD + "    @hookimpl\n    def register(self, registry):\n        1 / 0\n"},
        "it failed to start: ZeroDivisionError",
    ),
    "generator register": (
        {"code": GOOD + "    @hookimpl\n    def register(self, registry):\n        yield registry.add('x', 'y', 1)\n"},
        "it failed to start: TypeError: register() must return nothing",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_broken_plugin_is_listed_and_the_others_load(install: Install, fault: str) -> None:
    how, message = FAULTS[fault]
    install("broken", **how)
    install("good")
    with pytest.warns(RuntimeWarning, match=re.escape(message)) as warned:
        hosted = PluginHost()
    assert len(warned) == 1
    record = hosted.records["broken"]
    assert message in str(record.error)
    assert record.factory is None
    assert "sdcore-broken 1.0" in str(warned[0].message)
    assert hosted.plugin("good").name == "good"
    assert hosted.records["good"].hooks == ("step",)
    with pytest.raises(PluginLoadError, match=re.escape(message)) as used:
        resolve_uses(hosted, [Use(plugin="broken")])
    assert "reinstall or uninstall sdcore-broken" in str(used.value)
    with pytest.raises(PluginLoadError, match=re.escape(message)):
        PluginHost(["broken"])
    assert PluginHost(["good"]).plugin("good").name == "good"  # the broken one is not looked at


def test_the_warning_comes_once_in_a_process(install: Install) -> None:
    install("broken", "import package_that_does_not_exist")
    with pytest.warns(RuntimeWarning, match="is installed but cannot be used"):
        PluginHost()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        PluginHost()
        PluginHost(["installed"])


CLASSES = (
    *("other class", "options", "dataclass", "async", "async generator", "unmarked", "attribute for a hook"),
    *("unknown hook", "wrong parameter", "defaulted parameter", "wrapper", "tryfirst", "init", "register"),
)


@pytest.mark.parametrize("fault", CLASSES)
def test_a_class_that_is_given_is_checked_alike(install: Install, fault: str) -> None:
    how, message = FAULTS[fault]
    install("broken", **how)
    with pytest.raises(PluginLoadError, match=re.escape(message)):
        PluginHost([__import__("fake_sdcore_broken").Broken])


def test_two_packages_with_one_name_are_both_named_and_neither_is_imported(install: Install) -> None:
    install("twin", dist="sdcore-one", version="1.0")
    install("twin", dist="sdcore-two", version="2.0")
    record = records()["twin"]
    assert (
        record.error == "two packages provide a plugin of this name: sdcore-one 1.0 and sdcore-two 2.0; uninstall one"
    )
    assert not {"fake_sdcore_one", "fake_sdcore_two"} & set(sys.modules)


@pytest.mark.parametrize("blocked", ["good", "other, good", "*"])
def test_a_disabled_plugin_is_not_imported_and_says_so_when_used(
    install: Install, monkeypatch: pytest.MonkeyPatch, blocked: str
) -> None:
    install("good", "raise SystemExit('it was imported')")
    monkeypatch.setenv("SDCORE_DISABLE", blocked)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hosted = PluginHost()
    assert hosted.records["good"].disabled
    with pytest.raises(PluginLoadError, match=r"cannot be used: disabled by SDCORE_DISABLE$"):
        hosted.plugin("good")
    with pytest.raises(PluginLoadError, match="disabled by SDCORE_DISABLE"):
        PluginHost(["good"])


def test_others_are_not_disabled(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("good")
    monkeypatch.setenv("SDCORE_DISABLE", "other,")
    assert PluginHost().plugin("good").name == "good"


def test_a_plugin_that_is_too_old_is_not_imported(install: Install) -> None:
    install("old", "raise SystemExit('it was imported')", requires="sdcore>=0.0.1,<0.0.2")
    assert "upgrade one of them" in str(records()["old"].error)


@pytest.mark.parametrize(
    "requires",
    ["sdcore", "sdcore>=0.1,<0.2", "SDCORE>=0.1", "sdcore<0.0.1 ; extra == 'old'", "nonsense ===", "other<0.0.1", ""],
)
def test_requirements_that_are_met(install: Install, requires: str) -> None:
    install("good", requires=requires)
    assert records()["good"].error is None


def test_a_damaged_installation_stops_nobody(install: Install, tmp_path: Path) -> None:
    install("good")
    info = tmp_path / "sdcore_damaged-1.0.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text("[sdcore.plugins]\ndamaged = nothing:Nothing\n")
    (tmp_path / "sdcore_empty-1.0.dist-info").mkdir()
    found = records()
    assert found["good"].error is None
    assert found.get("damaged") is None or found["damaged"].error


def test_only_what_is_named_is_imported(install: Install) -> None:
    install("good")
    install("other", "raise SystemExit('it was imported')")
    assert list(records(["good"])) == ["good"]
    assert list(PluginHost(["good"]).records) == ["good"]
    assert list(PluginHost([]).records) == []


def test_a_name_that_is_not_installed(install: Install) -> None:
    install("good")
    with pytest.raises(
        PluginLoadError, match="'goood' cannot be loaded: it is not installed; pip install sdcore-goood"
    ):
        PluginHost(["goood"])
    with pytest.raises(PluginLoadError, match=r"there is no plugin 'goood'. Did you mean 'good'\?"):
        PluginHost(["good"]).plugin("goood")


# -- one host per engine --------------------------------------------------------------------------------


class Glow(Options):
    strength: float = 0.5


class GlowPlugin(Plugin):
    """Registers one thing."""

    name = "glow"
    options = Glow

    @hookimpl
    def register(self, registry: Registry) -> None:
        registry.add("safety_check", "glow", self)


class Glow2Plugin(GlowPlugin):
    """Inherits the options, which makes them ambiguous."""

    name = "glow-2"

    @hookimpl
    def register(self, registry: Registry) -> None:
        """Nothing."""


def test_two_hosts_share_nothing() -> None:
    one, two = PluginHost([GlowPlugin]), PluginHost([GlowPlugin])
    assert one.plugin("glow") is not two.plugin("glow")
    assert one.registry.get("safety_check", "glow") is one.plugin("glow")
    assert two.registry.get("safety_check", "glow") is two.plugin("glow")


def test_options_find_their_plugin() -> None:
    assert PluginHost([GlowPlugin]).owner(Glow()) == "glow"
    with pytest.raises(PluginLoadError, match=r"Glow belong to the plugins glow and glow-2; say which"):
        PluginHost([GlowPlugin, Glow2Plugin]).owner(Glow())
    with pytest.raises(PluginLoadError, match="no plugin of this engine has options of type Glow"):
        PluginHost([]).owner(Glow())


def test_options_of_a_broken_package_say_why(install: Install) -> None:
    install("broken", GOOD.replace("@hookimpl", ""))
    options = __import__("fake_sdcore_broken").BrokenOptions()
    with pytest.warns(RuntimeWarning):
        hosted = PluginHost()
    with pytest.raises(PluginLoadError, match="not marked with @hookimpl"):
        hosted.owner(options)


def test_classes_that_cannot_be_given() -> None:
    class Nameless(Plugin):
        """Has no name."""

    class Core(Plugin):
        """Has the name of the core."""

        name = "core"

    class Shouting(Plugin):
        """Has a name that no command line likes."""

        name = "My Plugin"

    class Other(Plugin):
        """Has the name of another."""

        name = "glow"

    for given, message in (
        (GlowPlugin(), "is an instance; give the class"),
        (3, "names or Plugin subclasses, got 3"),
        (dict, "not a subclass"),
        (Nameless, "name is empty"),
        (Core, "none of core, sdcore, installed"),
        (Shouting, "lower-case letters, digits and single hyphens"),
    ):
        with pytest.raises(PluginLoadError, match=message):
            PluginHost([given])  # type: ignore[list-item]
    with pytest.raises(PluginLoadError, match="two classes with the name 'glow' were given"):
        PluginHost([GlowPlugin, Other])
    PluginHost([GlowPlugin, GlowPlugin])


def test_a_given_class_takes_the_place_of_an_installed_one(install: Install) -> None:
    install("glow")
    install("good")
    hosted = PluginHost(["installed", GlowPlugin])
    assert type(hosted.plugin("glow")) is GlowPlugin
    assert hosted.plugin("good").name == "good"
    assert hosted.label("glow") == f"class {__name__}:GlowPlugin"
    assert hosted.label("good") == "sdcore-good 1.0"


def test_a_hook_of_a_later_version_can_be_marked_optional() -> None:
    class Ahead(Plugin):
        """Knows a hook that this version has not."""

        name = "ahead"

        @hookimpl(optionalhook=True)
        def tomorrow(self, run: Any) -> None:
            """Nothing."""

    assert PluginHost([Ahead]).records["ahead"].hooks == ()


# -- the registry ---------------------------------------------------------------------------------------


def registering(title: str, kind: str, name: str) -> type[Plugin]:
    def register(self: Plugin, registry: Registry) -> None:
        registry.add("preprocessor", f"{title}-first", 1)
        registry.add(kind, name, 2)

    return type(title.title(), (Plugin,), {"name": title, "register": hookimpl(register)})


def test_names_that_are_taken_name_both_owners_and_leave_nothing_half_done() -> None:
    one, two = registering("one", "image_format", "qoi"), registering("two", "image_format", "qoi")
    with pytest.raises(PluginLoadError, match="image_format 'qoi' is registered by 'one' and again by 'two'"):
        PluginHost([two, one])
    hosted = PluginHost([one])
    assert list(hosted.registry.owners()) == [("image_format", "qoi", "one"), ("preprocessor", "one-first", "one")]
    assert PluginHost([one, registering("two", "preprocessor", "qoi")]).registry.get("preprocessor", "qoi") == 2


def test_what_the_core_registers_is_taken_too() -> None:
    with pytest.raises(PluginLoadError, match="scheduler 'euler' is registered by 'sdcore' and again by 'mine'"):
        PluginHost(
            [registering("mine", "scheduler", "euler")], before=lambda registry: registry.add("scheduler", "euler", 1)
        )


def test_the_registry_is_closed_after_the_start_and_knows_near_names() -> None:
    registry = PluginHost([registering("one", "image_format", "qoi")]).registry
    with pytest.raises(ConflictError, match="the registry is closed: add image_format 'heic' in the hook `register`"):
        registry.add("image_format", "heic", 1)
    with pytest.raises(RequestError, match=r"there is no image_format 'qoy'. Did you mean 'qoi'\?"):
        registry.get("image_format", "qoy")
    assert registry.all("image_format") == {"qoi": 2}
    assert registry.all("nothing") == {}


def test_discovery_imports_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from sdcore.host import PluginHost; from sdcore.discovery import discover; PluginHost([]);"
        "assert 'torch' not in sys.modules"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
