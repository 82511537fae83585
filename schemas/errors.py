"""Errors that a user sees as one clear sentence, never as a traceback."""


class QuanyuError(Exception):
    """What went wrong and what to do about it, in one message for a person.

    The command line prints it and exits 2; an HTTP handler turns it into a 4xx/5xx body.
    """
