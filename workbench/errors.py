"""The one exception for what a person can mend, and how its messages show values that came from outside."""


class WorkbenchError(Exception):
    """A bad input: one plain sentence that names the thing, the value and the choices.

    Pages and the command line show the text alone; any other exception is a defect of the program.
    """


def shown(value: object, limit: int = 80) -> str:
    """A value as it may stand in a message: quoted, printable characters only, at most `limit` of them."""
    text = repr(value[:limit] if isinstance(value, str) else value)
    if len(text) <= limit:
        return text
    end = f"…{text[0]}" if isinstance(value, str) else "…"  # the quote is closed again
    return text[: limit - len(end)] + end


def unknown(kind: str, name: object, choices: list[str] | tuple[str, ...]) -> WorkbenchError:
    """The error for a name that is not among the choices."""
    return WorkbenchError(f"unknown {kind} {str(name)[:80]!r}; choose one of: {', '.join(choices)}")
