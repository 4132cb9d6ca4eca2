"""The files that follow from the catalogue."""

from __future__ import annotations

from pathlib import Path, PurePath

from flowmetrics.configuration import Configuration
from flowmetrics.errors import OperationError
from flowmetrics.publishing.publications import PUBLICATIONS


def generate(what: str, configuration: Configuration, check: bool) -> None:
    """Write, or compare, the files that follow from the catalogue."""
    publication = PUBLICATIONS[what]
    wrong, documents = [], {name: text.encode() for name, text in publication.documents(configuration).items()}
    try:
        for name, document in documents.items():
            path = Path(name)
            if check:
                wrong += [] if path.is_file() and path.read_bytes() == document else [name]
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(document)
    except OSError as error:
        raise OperationError(f"{error.filename}: {error.strerror}; move it away, or make it writable") from None
    suffixes = {PurePath(name).suffix for name in documents}
    found = (str(path) for folder in publication.folders for path in Path(folder).glob("*") if path.suffix in suffixes)
    wrong += [name for name in found if name not in documents]
    if check and wrong:
        raise OperationError(f"not fresh: {', '.join(sorted(wrong))}; run flowmetrics generate {what}")
