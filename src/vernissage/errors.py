"""Everything that can go wrong, in one family.

VernissageError
├── UserError         the caller can fix it; shown without a traceback
│   ├── BadInput          a text, picture, file or option that cannot be used as it is
│   ├── BadPlan           a plan that its model cannot paint: unknown sampler, size or steps out of range
│   ├── BadCard           a model card, recipe or configuration with a mistake in it
│   └── UnknownName       no model, driver or prompt of that name; names the nearest ones
├── MissingExtra      a package is not installed; says the command that installs it
├── DriverError       an outside system failed
│   ├── Refused           it said no: wrong key, forbidden content, no such resource
│   │   └── NoProbabilities   a model that never tells how likely its answers are
│   ├── RateLimited       it asked to wait, longer than we were willing to
│   ├── TimedOut          it did not answer in time
│   └── OutOfMemory       the device is too small for this work at once
├── ReplyError        a model answered, unusably; keeps the reply
└── IntegrityError    a file does not match its record
"""

import difflib
from collections.abc import Iterable


def reason_of(error: Exception) -> str:
    """The error's message, without the errno and path of an `OSError`.

    Example:
        >>> reason_of(FileNotFoundError(2, "No such file or directory", "a.csv")), reason_of(ValueError("no number"))
        ('no such file or directory', 'no number')
    """
    said = error.strerror if isinstance(error, OSError) and error.strerror else ""
    return said[:1].lower() + said[1:] if said else str(error)


class VernissageError(Exception):
    """Root of the family. `hint` says what to do next; `retryable` whether the same call may succeed later."""

    retryable = False

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class UserError(VernissageError):
    """The caller can fix it."""


class BadInput(UserError):
    """A text, picture, file or option that cannot be used as it is."""


class BadPlan(UserError):
    """A plan that its model cannot paint."""


class BadCard(UserError):
    """A model card, recipe or configuration with a mistake in it."""


class UnknownName(UserError):
    """No model, driver or prompt of that name.

    Example:
        >>> print(UnknownName("model", "mini/neno", ["mini/neon", "mini/general"]))
        There is no model 'mini/neno'. Did you mean 'mini/neon'? Known: mini/general, mini/neon.
    """

    def __init__(self, what: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        plain = {each.lower(): each for each in names}
        near = difflib.get_close_matches(name.lower(), plain, n=1)
        hint = f"Did you mean {plain[near[0]]!r}? " if near else ""
        super().__init__(f"There is no {what} {name!r}.", hint=f"{hint}Known: {', '.join(names) or 'none'}.")


class MissingExtra(VernissageError):
    """A package is not installed.

    Example:
        >>> print(MissingExtra("diffusers", extra="local"))
        This needs the package 'diffusers', which is not installed. Run: pip install 'vernissage[local]'
    """

    def __init__(self, package: str, *, extra: str) -> None:
        super().__init__(
            f"This needs the package {package!r}, which is not installed.",
            hint=f"Run: pip install 'vernissage[{extra}]'",
        )
        self.package = package
        self.extra = extra


class DriverError(VernissageError):
    """An outside system failed; the original error is kept as the cause."""

    retryable = True


class Refused(DriverError):
    """The outside system said no; asking again will not help."""

    retryable = False


class NoProbabilities(Refused):
    """A language model that answers, and never tells how likely its answers are."""


class RateLimited(DriverError):
    """The outside system asked to wait, longer than we were willing to."""


class TimedOut(DriverError):
    """The outside system did not answer in time."""


class OutOfMemory(DriverError):
    """The device is too small for this work at once."""

    retryable = False


class ReplyError(VernissageError):
    """A model answered, unusably. `reply` is what it said."""

    def __init__(self, message: str, *, reply: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.reply = reply


class IntegrityError(VernissageError):
    """A file does not match its record."""
