"""The one writer: from a draft to a plan, and from a plan to a directory."""
