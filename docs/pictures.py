"""Make the pictures of README and tour from a store: `python docs/pictures.py demo-store docs` (or `make pictures`).

Needs Chromium and Playwright; every picture shows this software's own output on the demo's runs.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from playwright.sync_api import sync_playwright
from werkzeug.serving import make_server

from landscape.app.serving.server import make_app

FLAGS = [
    "--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking", "--no-first-run", "--disable-sync",
    "--disable-component-update", "--disable-quic", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
]  # fmt: skip
PAGES: dict[str, tuple[str, Literal["light", "dark"], int]] = {
    "overview": ("/run/adam?step=150", "light", 1245),
    "spectrum-dark": ("/run/adam/spectrum?step=300", "dark", 1110),
    "surface-3d": ("/run/adam/surface/pca?step=100&view=3d", "light", 1000),
    "path": ("/path/adam/sgd-momentum?t=0.5", "light", 1040),
    "tour-runs": ("/", "light", 420),
    "tour-volume": ("/run/adam/volume", "light", 900),
    "tour-jobs": ("/jobs?run=adam", "light", 1100),
    "tour-gan": ("/run/gan/gan?step=300", "light", 1440),
    "tour-structure": ("/run/grown/structure?step=100", "light", 1160),
    "tour-export": ("/export?run=adam", "dark", 1000),
}
DRAWER = "tour-how"  # a card with its drawer open


@contextlib.contextmanager
def serving(store: str) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, make_app(store).server, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()


def screenshots(store: str, out: Path) -> None:
    browser_path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with serving(store) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path, args=FLAGS)
        for name, (url, theme, height) in PAGES.items():
            page = browser.new_page(viewport={"width": 1600, "height": height}, color_scheme=theme)
            page.goto(address + url)
            page.locator("#page .card").first.wait_for(timeout=60_000)
            page.wait_for_timeout(5_000)  # plots, fonts and the last redraw
            page.screenshot(path=out / f"{name}.png")
            page.close()
            print(f"{out / name}.png")
        page = browser.new_page(viewport={"width": 1600, "height": 3000}, color_scheme="light")  # taller than the card
        page.goto(f"{address}/run/adam?step=150")
        card = page.locator("section[data-card=density]")
        card.locator("summary").click(timeout=60_000)
        card.locator(".how-body table").first.wait_for(timeout=60_000)
        page.wait_for_timeout(3_000)
        card.screenshot(path=out / f"{DRAWER}.png")
        print(f"{out / DRAWER}.png")


def main() -> int:
    store, out = sys.argv[1], Path(sys.argv[2])
    out.mkdir(exist_ok=True)
    screenshots(store, out)
    gif = out / "trajectory.gif"
    words = [sys.executable, "-m", "landscape", "video", f"{store}/adam", "--out", str(gif), "--seconds", "7",
             "--fps", "10", "--size", "960x540"]  # fmt: skip
    gallery(store, out)
    return subprocess.run(words, check=False).returncode


def gallery(store: str, out: Path) -> None:
    """Frames of the other films, and figures: no browser needed."""
    from landscape.pictures import paper, video
    from landscape.stores.run_directory import Run

    adam, sgd = Run(f"{store}/adam"), Run(f"{store}/sgd-momentum")
    scenes = video.together([adam, sgd], [video.load(adam), video.load(sgd)])
    frames = [video.poster(scenes[0], out / "relief.png", film="relief", step=200, dark=True),
              video.poster(scenes, out / "comparison.png", film="comparison", step=150)]  # fmt: skip
    for name in ("trajectory", "relief"):
        plate = paper.make(adam, name, None, paper.Sheet.of("text"))
        frames.append(paper.save(paper.Plate(plate.figure, plate.caption, 160), out / f"figure-{name}.png"))
    print(*frames, sep="\n")


if __name__ == "__main__":
    sys.exit(main())
