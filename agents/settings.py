"""The configuration file, read from where it lies."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from flowmetrics.configuration import Configuration
from flowmetrics.errors import ConfigurationError
from flowmetrics.settings import read_settings

DEFAULT_PATH: Final = "flowmetrics.yaml"


def load_configuration(path: str | None) -> Configuration:
    """The configuration of a file; of none that is named: `./flowmetrics.yaml` if it exists, else the defaults.

    Relative paths in it, such as `local://./flowmetrics-data`, are those of the current directory, not of the file.
    Raises ConfigurationError where the file cannot be read, or with all mistakes in it.
    """
    name = DEFAULT_PATH if path is None else path
    try:
        text = Path(name).read_bytes().decode("utf-8")
    except FileNotFoundError:
        if path is None:
            return Configuration()
        raise ConfigurationError(f"{name} does not exist; name a file that does.") from None
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{name} is not UTF-8 text at byte {error.start}; save it as UTF-8.") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigurationError(f"{name} cannot be read: {reason}.") from None
    return read_settings(text, name)
