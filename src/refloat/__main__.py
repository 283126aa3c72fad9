"""``python -m refloat``."""

from refloat.cli.main import main

if __name__ == "__main__":
    main()
