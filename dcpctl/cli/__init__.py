"""Floor 6: Typer only; strings to objects, one file a command, exit codes."""
