"""What a user did wrong, in one line that says what to do."""


class FrostproofError(Exception):
    """Base of the errors that users can mend; the message is one line that ends with the next step."""


class UsageError(FrostproofError):
    """A command, an option or a target that cannot be used. The command line ends with exit code 2."""


class CaseError(FrostproofError):
    """A case that does not describe a network that can be built and trained."""
