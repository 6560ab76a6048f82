"""Dash components as HTML text, for what is read without Dash: frozen pages, the files of a card, its evidence."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from typing import Any

from dash.development.base_component import Component

NAMES = {"className": "class", "htmlFor": "for"}
VOID = {"img", "br", "hr", "input", "meta", "link", "col"}
Special = Callable[[Component], str | None]


def text(part: Any, special: Special = lambda _component: None) -> str:
    """HTML of a component, of text, or of a list of both; nothing of Dash's own components.

    Args:
        special: asked first for every component; None leaves it to this function.
    """
    if part is None or isinstance(part, bool):
        return ""
    if isinstance(part, (list, tuple)):
        return "".join(text(p, special) for p in part)
    if not isinstance(part, Component):
        return html.escape(str(part), quote=False)
    made = special(part)
    if made is not None:
        return made
    given = own(part)
    if given["namespace"] != "dash_html_components":
        return ""
    properties = dict(given["props"])
    inside = text(properties.pop("children", None), special)
    tag = str(given["type"]).lower()
    opened = f"<{tag}{''.join(_attribute(k, v) for k, v in properties.items())}>"
    return opened if tag in VOID else f"{opened}{inside}</{tag}>"


def own(part: Component) -> Any:
    """Type and properties of a component, its children as components even where their JSON is kept."""
    return Component.to_plotly_json(part)


def _attribute(name: str, value: Any) -> str:
    if value is None or value is False or name == "n_clicks" or (name == "id" and not isinstance(value, str)):
        return ""
    if name == "style":
        value = ";".join(f"{re.sub('[A-Z]', lambda m: '-' + m[0].lower(), k)}:{v}" for k, v in value.items())
    name = NAMES.get(name, name.lower())
    return f" {name}" if value is True else f' {name}="{html.escape(str(value))}"'


def links(part: Any) -> list[str]:
    """Where the links inside a component lead, in their order."""
    if isinstance(part, (list, tuple)):
        return [url for p in part for url in links(p)]
    if not isinstance(part, Component):
        return []
    given = own(part)
    here = given["props"].get("href") if given["type"] == "A" else None
    return [*([here] if isinstance(here, str) else []), *links(given["props"].get("children"))]
