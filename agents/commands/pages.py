"""The files that follow from the catalogue."""

from __future__ import annotations

from pathlib import Path

from flowmetrics.errors import OperationError
from flowmetrics.pages import documents


def generate(what: str, check: bool) -> None:
    """Write, or compare, the files that follow from the catalogue."""
    wrong, pages = [], {name: text.encode() for name, text in documents().items()}
    try:
        for name, page in pages.items():
            path = Path(name)
            if check:
                wrong += [] if path.is_file() and path.read_bytes() == page else [name]
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(page)
    except OSError as error:
        raise OperationError(f"{error.filename}: {error.strerror}; move it away, or make it writable") from None
    orphans = [str(p) for p in Path("docs/kpis").glob("*.md") if str(p) not in pages]
    if check and (wrong or orphans):
        raise OperationError(f"not fresh: {', '.join(sorted([*wrong, *orphans]))}; run flowmetrics generate {what}")
