"""Loading a model in transformers format: quietly, never running code from it, with clear errors."""

from typing import Any

import transformers

from vernissage.errors import DriverError

transformers.utils.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


def load_pretrained(kind: Any, model: str, **options: Any) -> Any:
    """`kind.from_pretrained`, never running code from the checkpoint.

    Raises:
        DriverError: It is not there or not of that kind.
    """
    try:
        return kind.from_pretrained(model, **options)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise DriverError(f"{kind.__name__} cannot be loaded from {model}: {error}") from error
