"""`python -m dcpctl`."""

from dcpctl.cli.main import main

if __name__ == "__main__":
    main()
