"""Why the embedded service could not start or go on. Each text says what to do next."""


class EmbeddedError(Exception):
    """The embedded service cannot run here; the text is shown to the person who started it."""


class BinaryMissing(EmbeddedError):
    """A server's binary is neither on this machine nor in the installed packages."""


class ServerFailed(EmbeddedError):
    """A server ended, or did not answer in time, while it was being started."""


class HomeUnusable(EmbeddedError):
    """The data directory cannot be used as it is."""


class AlreadyRunning(EmbeddedError):
    """Another supervisor holds this data directory."""
