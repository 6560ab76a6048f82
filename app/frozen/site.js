// A frozen page: draws its figures and lets the slider move what it moves in the app. No server, no network.
(function () {
  "use strict";
  const page = window.landscape_page;
  const input = document.getElementById("stop");
  const output = document.getElementById("stop-text");
  let at = page.at;

  const words = (place) => page.pool[place];
  const section = (name) => document.querySelector(`section[data-card="${CSS.escape(name)}"]`);
  const graph = (name) => { const card = section(name); return card && card.querySelector(".graph"); };

  function nearest(x) {
    let best = 0;
    page.values.forEach((v, i) => { if (Math.abs(v - x) < Math.abs(page.values[best] - x)) best = i; });
    return best;
  }

  function show(next) {
    at = Math.min(Math.max(next, 0), Math.max(page.values.length - 1, 0));
    if (input) {
      input.value = at;
      input.setAttribute("aria-valuetext", page.texts[at]);
      output.textContent = page.label + ": " + page.texts[at];
    }
    const kpis = document.querySelector(".kpis");
    if (kpis && page.kpis.length) kpis.innerHTML = page.kpis[at].map(words).join("");
    Object.entries(page.cards).forEach(([name, card]) => {
      const place = section(name);
      place.querySelector("h2").textContent = words(card.titles[at]);
      place.querySelector(".caption").textContent = words(card.captions[at]);
      const link = place.querySelector("a[data-csv]");
      if (link) { link.href = words(card.csv[at]) || "#"; link.hidden = !words(card.csv[at]); }
      if (card.moves.length) window.landscape_replay.move(graph(name), card.moves[at]);
    });
    window.dispatchEvent(new Event("landscape-moved"));
  }

  function select(next) {
    show(next);
    if (page.name) history.replaceState(null, "", "#" + page.name + "=" + page.values[at]);
  }

  function clicked(name, event) {
    const point = event.points && event.points[0];
    if (!point || !page.values.length) return;
    let x = null;
    if (typeof point.customdata === "number") x = point.customdata;
    else if (Array.isArray(point.customdata) && typeof point.customdata[0] === "number") x = point.customdata[0];
    else if (/over|training|along/.test(name)) x = page.log ? Math.pow(10, point.x) - 1 : point.x;
    if (x !== null) select(nearest(x));
  }

  window.landscape_frozen = { evidence: (name) => words(page.cards[name].how[at]) };

  const drawing = Object.entries(page.cards).map(([name, card]) => {
    const place = graph(name);
    return window.Plotly.newPlot(place, card.figure.data, card.figure.layout, { displayModeBar: false, responsive: true })
      .then(() => place.on("plotly_click", (event) => clicked(name, event)));
  });

  function from_address() {
    const found = location.hash.slice(1).split("=");
    show(page.values.length && found[0] === page.name ? nearest(Number(found[1])) : page.at);
  }

  if (input) input.addEventListener("input", () => select(Number(input.value)));
  window.addEventListener("hashchange", from_address);
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || !input || event.target.closest("input, pre, [tabindex]")) return;
    const moves = { ArrowLeft: at - 1, ArrowRight: at + 1, Home: 0, End: page.values.length - 1 };
    if (!(event.key in moves)) return;
    event.preventDefault();
    select(moves[event.key]);
  });
  Promise.all(drawing).then(() => { from_address(); document.documentElement.dataset.ready = "1"; });
})();
