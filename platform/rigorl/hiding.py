"""What of a URL may be said aloud: never a password, a token or a key."""

import re
from urllib.parse import parse_qsl, unquote

TELLING = ("pass", "secret", "token", "key", "sig")
"""What is in the name of a part of a URL that is a secret."""
FILES = ("passfile", "sslkey")
"""Such names that only say where one lies."""


def is_secret(name: str) -> bool:
    """Say whether what a URL calls *name* behind its `?` is a secret."""
    return name.lower() not in FILES and any(part in name.lower() for part in TELLING)


def has_secret(url: str) -> bool:
    """Say whether there is a password in *url*, before its host or behind its `?`.

    Whoever stands alone before the host of a web page is a token; of a database, its user. A
    password may hold anything, so a URL is not taken apart by the usual rules.
    """
    before_host = re.search(r"://[^@]*:[^@]*@|^https?://[^/?#]*@", url)
    names = [name for name, _ in parse_qsl(url.partition("?")[2], keep_blank_values=True)]
    return bool(before_host) or any(map(is_secret, names))


def shown(text: str) -> str:
    """Return *text* as it may be said aloud: its URLs without users, passwords and keys."""

    def hidden(found: re.Match[str]) -> str:
        return f"{found[1]}=..." if is_secret(unquote(found[1][1:])) else found[0]

    return re.sub(r"([?&][^=&\s]*)=[^&\s]*", hidden, re.sub(r"://\S*@", "://...@", text))
