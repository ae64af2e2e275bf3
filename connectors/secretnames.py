"""Which names of parameters and headers look as if their values were secret."""

import re

_SECRET = re.compile(
    r"token|secret|passw|pwd|credential|signature|session|cookie|auth(?!or)|(api|access|subscription|app)[_.-]?key"
    r"|(?<![a-z])(key|sig)(?![a-z])",
    re.IGNORECASE,
)


def secret(name: str) -> bool:
    """Whether a value of this name may not be shown."""
    return _SECRET.search(name) is not None
