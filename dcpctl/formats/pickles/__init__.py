"""An allow-listing pickle reader in pure Python: builds stand-ins, executes nothing."""
