"""`python -m dcpctl`."""

from __future__ import annotations

from dcpctl.cli.main import main

if __name__ == "__main__":
    main()
