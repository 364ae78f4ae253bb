"""One model, and an engine on it for every policy. Engines on one model share its weights and take turns."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sdcore import Engine, Plugin, Use

from .config import Config, ConfigError, Policy


class Engines:
    """The engines by the name of their policy.

    Args:
        config: the operator's file.
        given: plugin classes by name that are not installed as packages.

    Raises:
        ConfigError: a policy names a plugin twice. SdcoreError: the model, a plugin or ``always`` cannot be used.
    """

    def __init__(self, config: Config, given: Mapping[str, type[Plugin]] | None = None) -> None:
        self.config = config
        self._by_policy: dict[str, Engine] = {}
        for name, policy in config.policies.items():
            always = [use.plugin for use in policy.always]
            if twice := set(always) & set(policy.plugins):
                raise ConfigError(f"policies.{name}: {', '.join(sorted(twice))} is in plugins and in always; keep one")
            settings: dict[str, Any] = {
                "plugins": [(given or {}).get(one, one) for one in dict.fromkeys([*policy.plugins, *always])],
                "always": [Use(plugin=use.plugin, options=use.options) for use in policy.always],
                "max_pixels": policy.limits.pixels,
            }
            if self._by_policy:
                self._by_policy[name] = Engine(next(iter(self._by_policy.values())).model, **settings)
            else:
                self._by_policy[name] = Engine.load(config.model or None, **settings)

    def of(self, policy: str) -> tuple[Engine, Policy]:
        """The engine of a policy, and the policy.

        Raises:
            ConfigError: a key belongs to a policy that the file does not have any more.
        """
        try:
            return self._by_policy[policy], self.config.policies[policy]
        except KeyError:
            raise ConfigError(f"there is no policy {policy!r}; give the key another one") from None

    def plugins(self, policy: str) -> list[dict[str, Any]]:
        """What a page needs for its forms: name, package, one sentence, and the JSON schema of the options."""
        engine, rules = self.of(policy)
        found = []
        for name in rules.plugins:
            plugin = engine.host.plugin(name)
            schema: dict[str, Any] = plugin.options.model_json_schema() if plugin.options else {"type": "object"}
            properties = schema.get("properties", {})
            schema["properties"] = {one: properties[one] for one in properties if one not in rules.forbidden_options}
            about = (type(plugin).__doc__ or "").strip().split("\n")[0]
            found.append({"name": name, "package": engine.host.label(name), "about": about, "schema": schema})
        return found

    def close(self) -> None:
        """Stop what runs, and free the model."""
        for engine in self._by_policy.values():
            engine.close()
