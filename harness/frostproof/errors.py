"""What a user did wrong, in one line that says what to do."""

from __future__ import annotations


class FrostproofError(Exception):
    """Base of the errors that users can mend; the message is one line that ends with the next step."""


class UsageError(FrostproofError):
    """A command, an option or a target that cannot be used. The command line ends with exit code 2."""


class CaseError(FrostproofError):
    """A case that does not describe a network that can be built and trained."""


def one_line(text: str, longest: int = 400) -> str:
    """`text` from outside as one line that a terminal shows and does not obey: no breaks, no escape sequences, not endless.

    >>> one_line("a\\nb\\x1b[31mc")
    'a b?[31mc'
    """
    words = " ".join(text[: 4 * longest].split())
    shown = "".join(c if c.isprintable() else "?" for c in words)
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"
