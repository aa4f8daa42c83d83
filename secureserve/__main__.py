"""``python -m secureserve``: the command line."""

from __future__ import annotations

from secureserve.cli import main

if __name__ == "__main__":
    main()
