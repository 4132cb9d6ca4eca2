"""What each command does, once its words are read.

    files    import, replay, validate            serving   demo, top, and how an engine is served
    pages    generate                            runtime   run, audit, explain, rejected, move, adopt
    backfill

What is done otherwise on a data directory than on Kafka is in `local` and `kafka`; `runtime` chooses.
"""

from agents.commands.backfill import Wanted, backfill
from agents.commands.files import import_files, replay, validate
from agents.commands.pages import generate
from agents.commands.runtime import adopt, audit, explain, move, rejected, run
from agents.commands.serving import demo, top

__all__ = [
    "Wanted",
    "adopt",
    "audit",
    "backfill",
    "demo",
    "explain",
    "generate",
    "import_files",
    "move",
    "rejected",
    "replay",
    "run",
    "top",
    "validate",
]
