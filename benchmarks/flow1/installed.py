"""What a program of the bench needs besides this project: made once in a folder of its own, and anew after a change."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

HERE: Final = Path(__file__).parents[1]
"""The folder of all benchmarks."""
PEERS: Final = HERE / "peers"


class NotInstalledError(Exception):
    """Something cannot be had here; says what."""


class Needs(Protocol):
    """What a program needs, and how it is then run."""

    def install(self, folder: Path) -> None:
        """Make it in a folder, unless it is there. Raises NotInstalledError."""
        ...

    def command(self, folder: Path, *words: object) -> list[str]:
        """How the program is run."""
        ...


@dataclass(frozen=True)
class Venv:
    """Packages for Python in a virtual environment."""

    packages: tuple[str, ...]

    def install(self, folder: Path) -> None:
        """Make the environment, unless it is there. Raises NotInstalledError."""
        if _is_there(folder, text := f"{sys.version} {self.packages}"):
            return
        _do([sys.executable, "-m", "venv", folder / "venv"])
        _do([folder / "venv" / "bin" / "pip", "install", "--quiet", "--disable-pip-version-check", *self.packages])
        _note(folder, text)

    def command(self, folder: Path, *words: object) -> list[str]:
        """Python in it."""
        return [str(word) for word in (folder / "venv" / "bin" / "python", "-W", "ignore", *words)]

    def run(self, folder: Path, *words: object) -> None:
        """Run a program in it to its end. Raises NotInstalledError where it fails."""
        _do(self.command(folder, *words))


@dataclass(frozen=True)
class Java:
    """The Java program in a folder of peers, with what its pom.xml names."""

    name: str
    main: str
    options: tuple[str, ...]

    def install(self, folder: Path) -> None:
        """Fetch the jars and compile, unless that was done. Raises NotInstalledError."""
        for tool in ("java", "javac", "mvn"):
            if shutil.which(tool) is None:
                raise NotInstalledError(f"there is no {tool}; install a JDK and Maven")
        pom, sources = PEERS / self.name / "pom.xml", sorted((PEERS / self.name).glob("*.java"))
        if _is_there(folder, text := "".join(path.read_text() for path in (pom, *sources))):
            return
        _do(["mvn", "-q", "-B", "-f", pom, "dependency:copy-dependencies", f"-DoutputDirectory={folder / 'jars'}"])
        _do(["javac", "-cp", f"{folder}/jars/*", "-d", folder / "classes", *sources])
        _note(folder, text)

    def command(self, folder: Path, *words: object) -> list[str]:
        """Java over the classes."""
        classes = f"{folder}/classes:{folder}/jars/*"
        return ["java", *self.options, "-cp", classes, self.main, *(str(word) for word in words)]


def _is_there(folder: Path, text: str) -> bool:
    note = folder / "installed"
    if note.exists() and note.read_text() == _digest(text):
        return True
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return False


def _note(folder: Path, text: str) -> None:
    (folder / "installed").write_text(_digest(text))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _do(command: Sequence[object]) -> None:
    words = [str(word) for word in command]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        said = [line.strip() for line in f"{done.stdout}\n{done.stderr}".splitlines()]
        reason = next((line for line in said if "error" in line.lower()), f"exit code {done.returncode}")
        raise NotInstalledError(f"{Path(words[0]).name} failed: {reason[:200]}")
