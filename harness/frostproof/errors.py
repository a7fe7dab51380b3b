"""All exceptions of the package, but for those that never leave one module.

Exception
  FrostproofError           a mistake that the user can mend
    UsageError              ... in a command, an option or a target
    CaseError               ... in a case
  UnusableError             an optimizer cannot be judged
  UnprintableError          a training cannot be written as a script
  LostError                 a task in another process gave no answer
  AssertionError
    ViolationError          an invariant is violated; it has a subclass for each invariant
BaseException               these pass code that catches every Exception, as an optimizer may
  TimeSpentError            the time of a test item is over
  KeyboardInterrupt
    RunInterruptedError     a signal has asked the run to end
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence

FROM_USERS = (Exception, SystemExit)
"""What a user's module or function may raise: a script may end with `sys.exit(main())`."""


class FrostproofError(Exception):
    """Base of the errors that users can mend. The message is one line that ends with a remedy."""


class UsageError(FrostproofError):
    """A command, an option or a target cannot be used. The command line ends with exit code 2."""


class CaseError(FrostproofError):
    """A case does not describe a network that can be built and trained."""


class UnusableError(Exception):
    """The optimizer cannot be judged on this device. The message is the reason, one line."""

    def __init__(self, reason: str, tries: Sequence[tuple[str, str]] = ()) -> None:
        """`tries`: each way to use it that was tried, and what it said."""
        super().__init__(reason)
        self.tries = tries


class UnprintableError(Exception):
    """The training cannot be written as a script. The message is the reason, one line."""


class LostError(Exception):
    """A task gave no answer. The message is the reason, one line."""


class ViolationError(AssertionError):
    """An invariant is violated.

    There is a subclass for each invariant, so that Hypothesis shrinks each bug by itself.
    """


class TimeSpentError(BaseException):
    """The time of a test item is over. Hypothesis would take an Exception for a failing test."""


class RunInterruptedError(KeyboardInterrupt):
    """A signal has asked the run to end."""


def one_line(text: str, longest: int = 400) -> str:
    r"""Return text from outside as one line that is safe to print.

    The line has no breaks, no escape sequences, and at most `longest` characters.

    >>> one_line("a\nb\x1b[31mc")
    'a b?[31mc'
    """
    words = " ".join(text[: 4 * longest].split())
    printable = "".join(c if c.isprintable() else "?" for c in words)
    return printable if len(printable) <= longest else f"{printable[: longest - 1]}…"


def did_you_mean(name: str, candidates: Sequence[str]) -> str:
    """A question with the most similar candidate; empty if none is similar."""
    alike = [each for each in candidates if each.lower() == name.lower()]
    near = alike or difflib.get_close_matches(name, candidates, n=1)
    return f" Did you mean {near[0]}?" if near else ""
