"""The settings of the command line: the environment, else what a running `memaudit up` left in its home."""

from app.embedded.supervisor import SERVICE_FILE
from app.settings import Settings


def find_settings() -> Settings:
    """The settings, with the URLs of the embedded service in `MEMAUDIT_HOME` where none are given."""
    return Settings(_env_file=Settings().home / SERVICE_FILE)
