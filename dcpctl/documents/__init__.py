"""Files that people and runs hand over: edits, policies, contracts, receipts, baselines, maps."""
