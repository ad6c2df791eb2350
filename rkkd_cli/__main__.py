"""``python -m rkkd_cli`` is ``rkkd``."""

from rkkd_cli.cli.main import main

if __name__ == "__main__":
    main()
