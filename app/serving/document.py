"""The HTML around a frozen page, and the slider that needs no Dash."""

from __future__ import annotations

import html

from ..view import Page
from . import frames

DOCUMENT = """<!doctype html>
<html lang="en" data-theme="light"{begins}>
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="generator" content="landscape {version}">
<title>{title}</title>
<script src="assets/theme.js"></script>
<link rel="stylesheet" href="assets/style.css">
</head>
<body>
<a class="skip" href="#main">Skip to content</a>
<div class="frame frozen">
<header class="top"><a class="brand" href="index.html">Landscape</a><div class="badge-place">{badge}</div>
<div class="actions"><span class="still">frozen copy, read-only</span>
<button id="theme-button" class="button" type="button">Dark</button></div></header>
<nav class="side" aria-label="Pages">{navigation}</nav>
<main id="main"><div id="page">{main}</div></main>
</div>
<script src="assets/plotly.min.js"></script>
<script src="assets/colours.js"></script>
<script src="pages/{name}.js"></script>
<script src="assets/cards.js"></script>
<script src="assets/replay.js"></script>
<script src="assets/site.js"></script>
</body>
</html>
"""


def slider(page: Page) -> str:
    """A range input with one stop a kept position of the page's slider."""
    stops = frames.positions(page)
    label = html.escape(page.slider.label if page.slider else "")
    at = stops.index(min(stops, key=lambda k: abs(k - page.index)))
    return (
        f'<div class="stop"><input type="range" id="stop" min="0" max="{len(stops) - 1}" step="1" value="{at}" '
        f'aria-label="{label}"><output for="stop" id="stop-text"></output></div>'
    )
