// What every card can do by itself, in the app and in frozen pages: pictures of the plot, and how it was computed.
(function () {
  "use strict";
  const root = document.documentElement;

  async function save(button) {
    const card = button.closest("section");
    const plot = card.querySelector(".js-plotly-plot");
    if (!plot || !window.Plotly) return;
    const kind = button.dataset.save;
    const title = card.querySelector("h2").textContent;
    const layout = Object.assign({}, plot.layout, {
      title: { text: title, font: { size: 14 }, x: 0.02, xanchor: "left" },
      paper_bgcolor: getComputedStyle(root).getPropertyValue("--card").trim(),
      margin: Object.assign({}, plot._fullLayout.margin, { t: plot._fullLayout.margin.t + 30 }),
    });
    const image = await window.Plotly.toImage({ data: plot.data, layout: layout },
      { format: kind, width: plot.clientWidth, height: plot.clientHeight + 30, scale: kind === "png" ? 2 : 1 });
    const link = document.createElement("a");
    link.href = image;
    link.download = button.dataset.name + "." + kind;
    link.click();
  }

  // A frozen page has the text with it; the app asks the server, for the step that is selected now.
  async function evidence(drawer) {
    const body = drawer.querySelector(".how-body");
    const frozen = window.landscape_frozen;
    if (frozen) { body.innerHTML = frozen.evidence(drawer.dataset.how); return; }
    const url = new URL(`/data/${encodeURIComponent(drawer.dataset.how)}.how`, location.origin);
    new URL(location.href).searchParams.forEach((value, name) => url.searchParams.set(name, value));
    url.searchParams.set("page", location.pathname);
    const asked = url.href;
    drawer.dataset.asked = asked;
    const answer = await fetch(asked, { credentials: "same-origin" });
    const text = await answer.text();
    if (drawer.dataset.asked !== asked) return;  // the step has moved on meanwhile
    if (answer.ok) body.innerHTML = text; else body.textContent = text;
  }

  let waiting = null;
  function again() {
    clearTimeout(waiting);
    waiting = setTimeout(() => document.querySelectorAll("details.how[open]").forEach(evidence), 250);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest && event.target.closest("button[data-save]");
    if (button) save(button);
  });
  document.addEventListener("toggle", (event) => {
    if (event.target.matches && event.target.matches("details.how") && event.target.open) evidence(event.target);
  }, true);
  window.addEventListener("landscape-moved", again);

  // How far a picture in space reaches depends on its height alone: on a phone its sides would be cut.
  const narrow = window.matchMedia("(max-width: 520px)");
  function step_back(plot) {
    const eye = plot._fullLayout && plot._fullLayout.scene && plot._fullLayout.scene.camera.eye;
    if (!eye || !plot.clientWidth) return;
    const seen = [eye.x, eye.y, eye.z].join();
    if ((plot.dataset.eye || seen) !== seen) return;  // stepped back already, or turned by the reader
    plot.dataset.eye = seen;
    const far = Math.min(Math.max(1.08 * plot.clientHeight / plot.clientWidth, 1), 1.8);
    if (far > 1) window.Plotly.relayout(plot, { "scene.camera.eye": { x: far * eye.x, y: far * eye.y, z: far * eye.z } });
  }
  setInterval(() => {
    if (narrow.matches && window.Plotly) document.querySelectorAll(".js-plotly-plot").forEach(step_back);
  }, 600);

  // On a phone the navigation is a row that scrolls: the present page into its middle.
  function centre(side) {
    const here = side.querySelector(".here");
    if (here) side.scrollLeft = here.offsetLeft - side.offsetLeft - (side.clientWidth - here.offsetWidth) / 2;
  }
  const looking = setInterval(() => {
    const side = document.querySelector(".side");
    if (!side) return;
    clearInterval(looking);
    centre(side);
    new MutationObserver(() => centre(side))
      .observe(side, { childList: true, subtree: true, attributes: true, attributeFilter: ["class"] });
  }, 100);
})();
