"""The settings of the command line: the environment, and what a running `memaudit up` left in its home."""

import os
import shlex

from app.embedded.supervisor import SERVICE_FILE
from app.settings import Settings


def find_settings() -> Settings:
    """The settings of this process, and of the programs that it turns into.

    Where the embedded service of `MEMAUDIT_HOME` runs, its variables are added to the environment;
    those that are set stay as they are.
    """
    try:
        variables = shlex.split((Settings().home / SERVICE_FILE).read_text())
    except OSError:
        variables = []
    for variable in variables:
        name, _, value = variable.partition("=")
        os.environ.setdefault(name, value)
    return Settings()
