"""Placeholder until the other branch lands."""


def passes(error: BaseException) -> bool:
    return False
