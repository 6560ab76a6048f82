"""URLs of the app as files of a frozen store: which of them are pages there, and how their files are called."""

from __future__ import annotations

import hashlib
import re
from urllib.parse import parse_qsl, unquote, urlsplit

from ..view import href

FOLLOWED = ("op", "shape", "view", "origin", "page")  # settings of a URL whose every choice is a page of its own
LEFT = ("step", "t", "slice")  # the slider's: one page holds all its stops


def canonical(url: str) -> str | None:
    """The URL of the page that stands for a link of the app; None where no page does."""
    split = urlsplit(url)
    if split.scheme or split.netloc or not split.path.startswith("/") or split.path.startswith("/data/"):
        return None
    query = {k: v for k, v in parse_qsl(split.query) if k not in LEFT}
    if set(query) - set(FOLLOWED):
        return None
    kept = {k: query[k] for k in FOLLOWED if query.get(k) and (k, query[k]) != ("view", "2d")}
    return href(*(unquote(p) for p in split.path.split("/") if p), **kept)


def file_name(url: str) -> str:
    """A name that every file system takes, another one for every URL."""
    if url == "/":
        return "index"
    split = urlsplit(url)
    words = [*(unquote(p) for p in split.path.split("/") if p), *(f"{k}.{v}" for k, v in parse_qsl(split.query))]
    name = re.sub(r"[^A-Za-z0-9._-]", "_", "-".join(words))[:80]
    plain = href(*words[: len(words)]) == url and name == "-".join(words) and "-" not in "".join(words)
    return name if plain else f"{name}-{digest(url)}"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
