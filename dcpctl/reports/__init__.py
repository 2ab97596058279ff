"""Floor 5: results to text, tables, JSON and Markdown."""
