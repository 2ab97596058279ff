"""Write the JSON Schema of `edits.toml` anew: `python -m tools.edits_schema`."""

from __future__ import annotations

import json
from pathlib import Path

from dcpctl.surgery.edits.file import edits_schema

SCHEMA = Path(__file__).resolve().parent.parent / "dcpctl/_data/dcpctl.edits-1.schema.json"


def main() -> None:
    """Write the file."""
    SCHEMA.write_text(json.dumps(edits_schema(), indent=2) + "\n")


if __name__ == "__main__":
    main()
