"""Write docs/conformance.md: every check of every plugin of this repository. `make conformance`; it takes a minute.

`--check` compares which plugins and checks there are, and the reasons of exceptions, and carries nothing out.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from pathlib import Path

from sdcore.testing.conformance.finding import find
from sdcore.testing.conformance.outcome import Report
from sdcore.testing.conformance.running import run_all
from sdcore.testing.conformance.showing import markdown

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "conformance.md"
TIERS = ("cpu", "weights")
HEAD = """<!-- Written by tests/conformance/table.py (`make conformance`); edit that. -->

# What every plugin promises

Each plugin of this repository, and the template, is checked by `make test` with the checks that `sdcore check` has for
every plugin ([how to test a plugin](how-to/test-a-plugin.md)). Tier cpu: small random SD1, SD2 and SDXL models. Tier
weights: the embedded model. Tier gpu, the same on CUDA, is carried out where there is a GPU, and is not shown here.

✓ passed, e an exception with its reason, – there is nothing to look at, ✗ failed.

"""


def plugins() -> list[str]:
    """Names of everything that the packages of this repository bring."""
    found = []
    for path in [*ROOT.glob("plugins/*/pyproject.toml"), ROOT / "plugin_template" / "pyproject.toml"]:
        groups = tomllib.loads(path.read_text())["project"]["entry-points"]
        found += [name for entries in groups.values() for name in entries]
    return sorted(found)


def carried_out() -> list[Report]:
    """A report of every plugin on every tier."""
    reports = []
    for tier in TIERS:
        for name in plugins():
            print(f"{tier}: {name}", file=sys.stderr)
            subject = find(name, tier)
            if tier == "cpu" or subject.draws:
                reports.append(run_all(subject))
    return reports


def is_fresh() -> bool:
    """Whether the page has these plugins, these checks, and the reasons that plugins give for exceptions."""
    text = PAGE.read_text(encoding="utf-8") if PAGE.is_file() else ""
    subjects = [find(name) for name in plugins()]
    wanted = [f"| # | check | {' | '.join(subject.name for subject in subjects)} |\n", markdown([]), HEAD]
    reasons = [reason for subject in subjects for reason in subject.spec.exceptions.values()]
    shown = set(re.findall(r"^\* e \*\*.*?\*\*, .*?: (.*)$", text, re.MULTILINE))
    return all(part in text for part in wanted) and set(reasons) == shown and "✗" not in text.removeprefix(HEAD)


def main() -> int:
    """Write the page, or with ``--check`` say that it is stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the page lists others")
    if parser.parse_args().check:
        return 0 if is_fresh() else 1
    reports = carried_out()
    PAGE.write_text(HEAD + markdown(reports), encoding="utf-8")
    for report in reports:
        print(f"{report.plugin}, {report.tier}: {sum(outcome.seconds for outcome in report.outcomes):.1f} s")
    failed = [f"{report.plugin}: {outcome.check}: {outcome.detail}" for report in reports for outcome in report.failed]
    print("\n".join(failed), file=sys.stderr)
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
