"""What ten thousand certificates cost: loading their directory, looking one up, memory.

python benchmarks/certificate_store.py [--credentials 10000]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
import tracemalloc
from pathlib import Path
from typing import Any

from secureserve.certificates.sources import DirectorySource
from secureserve.certificates.store import CertificateStore
from secureserve.testing import temporary_authority

LOOKUPS = 10_000


def measure(count: int) -> dict[str, Any]:
    """Make a directory of so many pairs, and measure what a server does with it."""
    with temporary_authority() as authority, tempfile.TemporaryDirectory() as path:
        for number in range(count):
            authority.issue(f"host{number}.example.test").write(Path(path) / str(number), "kubernetes")
        before = _resident_kb()
        began = time.perf_counter()
        loaded = DirectorySource(path).load()
        found: dict[str, Any] = {
            "credentials": len(loaded),
            "load_seconds": round(time.perf_counter() - began, 2),
            "memory_kb_for_each": round((_resident_kb() - before) / count, 1),
        }
        tracemalloc.start()
        store = CertificateStore(loaded)
        found["index_bytes_for_each"] = round(tracemalloc.get_traced_memory()[0] / count)
        tracemalloc.stop()
        for word, name in [("found", f"host{count // 2}.example.test"), ("unknown", "nobody.example.org")]:
            began = time.perf_counter()
            for _ in range(LOOKUPS):
                store.select(name)
            found[f"microseconds_{word}"] = round((time.perf_counter() - began) / LOOKUPS * 1e6, 2)
        return found


def _resident_kb() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])


def main() -> None:
    """Print what was found, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--credentials", type=int, default=10_000)
    json.dump(measure(parser.parse_args().credentials), sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
