"""What the tests of deploy/ share: where it lies, and the programs that check it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import pytest
import yaml
from yaml import CSafeLoader

ROOT: Final = Path(__file__).parents[2]
DEPLOY: Final = ROOT / "deploy"
CHECKERS: Final = ROOT / ".venv-deploy" / "bin"
"""The environment of requirements-deploy.lock, which `make check-deploy` and `make test` install."""
GO_PROGRAMS: Final = Path.home() / "go" / "bin"
"""Where `go install` puts what it makes."""
KUBERNETES: Final = "1.33.0"
"""A helm that was made by `go install` takes itself for one of Kubernetes 1.20."""


def tool(name: str, hint: str = "install it to have this checked") -> Path:
    """A program of this machine; without it the test is left out, which .ci/run does not allow."""
    found = shutil.which(name) or shutil.which(name, path=GO_PROGRAMS)
    if found is None:
        pytest.skip(f"left out: {name} is not on this machine; {hint}")
    return Path(found)


def checker(name: str) -> Path:
    """A program of the environment that checks deploy/."""
    if not (CHECKERS / name).exists():
        pytest.skip(f"left out: {name} is not in {CHECKERS.parent.name}; `make check-deploy` installs it")
    return CHECKERS / name


def run(*words: str | Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """A program to its end, at the top of the checkout, with its output."""
    return subprocess.run(words, cwd=ROOT, input=text, capture_output=True, text=True, timeout=120, check=False)


def passes(*words: str | Path, text: str | None = None) -> str:
    """What a program says that ends well."""
    done = run(*words, text=text)
    assert done.returncode == 0, f"exit code {done.returncode} of {[*words]}: {done.stdout}{done.stderr}"
    return done.stdout


def fails(*words: str | Path, text: str | None = None) -> str:
    """What a program says that does not end well."""
    done = run(*words, text=text)
    assert done.returncode != 0, f"{[*words]} ended well: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def helm(*words: str | Path) -> list[str | Path]:
    """A command of helm."""
    return [tool("helm", "`go install helm.sh/helm/v3/cmd/helm@v3.19.0`"), *words]


@cache
def _rendered(*words: str | Path) -> str:
    return passes(
        *helm("template", "fm", DEPLOY / "chart", "--namespace", "flow", "--kube-version", KUBERNETES, *words)
    )


def rendered(*words: str | Path) -> list[dict[str, Any]]:
    """The resources of the chart as a release `fm` in the namespace `flow`."""
    return [one for one in yaml.load_all(_rendered(*words), CSafeLoader) if one]


def of_kind(resources: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """The resources of a kind."""
    return [one for one in resources if one["kind"] == kind]


def only(resources: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    """The one resource of a kind."""
    found = of_kind(resources, kind)
    assert len(found) == 1, f"{len(found)} resources are a {kind}"
    return found[0]


def files(pattern: str) -> Iterator[Path]:
    """Files under deploy/."""
    return DEPLOY.glob(pattern)


def plain(settings: Mapping[str, Any]) -> dict[str, str]:
    """Settings as Kafka has them."""
    return {name: str(value) for name, value in settings.items()}
