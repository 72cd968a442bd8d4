"""The real agent as it is run on a node, and on SIGUSR1 a count of what it holds in memory.

    python -m tests.soak.agent COUNTS run --config FILE

writes to COUNTS, as JSON, the number of objects that the garbage collector follows by their type,
the bytes that Python has allocated since the start, and where most of them come from.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import tracemalloc
from collections import Counter
from pathlib import Path

from checkpointer.__main__ import main

_PLACES = 10


def tell(path: Path) -> None:
    """Write the counts of now; the file appears complete."""
    gc.collect()
    counts = Counter(f"{type(one).__module__}.{type(one).__qualname__}" for one in gc.get_objects())
    allocated, _ = tracemalloc.get_traced_memory()
    places = tracemalloc.take_snapshot().statistics("lineno")[:_PLACES]
    found = {
        "objects": dict(counts),
        "bytes": allocated,
        "places": [f"{place.traceback}: {place.size}" for place in places],
    }
    part = path.with_suffix(".part")
    part.write_text(json.dumps(found))
    os.replace(part, path)


if __name__ == "__main__":
    tracemalloc.start()
    counts_path = Path(sys.argv[1])
    signal.signal(signal.SIGUSR1, lambda *_: tell(counts_path))
    sys.argv[1:] = sys.argv[2:]
    sys.exit(main())
