// A frozen page: draws its figures and lets the slider move what it moves in the app. No server, no network.
(function () {
  "use strict";
  const page = window.landscape_page;
  const input = document.getElementById("stop");
  const output = document.getElementById("stop-text");
  const root = document.documentElement;
  let at = page.at;

  const words = (place) => page.pool[place];
  const section = (name) => document.querySelector(`section[data-card="${CSS.escape(name)}"]`);
  const graph = (name) => { const card = section(name); return card && card.querySelector(".graph"); };

  // A copy in the colours of the theme: figures are stored in light, and dark ones differ in their colours alone.
  function themed(value) {
    if (typeof value === "string") return (root.dataset.theme === "dark" && window.landscape_colours[value]) || value;
    if (Array.isArray(value)) return value.map(themed);
    if (!value || typeof value !== "object") return value;
    return Object.fromEntries(Object.entries(value).map(([key, v]) => [key, key === "bdata" ? v : themed(v)]));
  }

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
      if (card.moves.length) window.landscape_replay.move(graph(name), themed(card.moves[at]));
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
    return window.Plotly.newPlot(place, themed(card.figure.data), themed(card.figure.layout), { displayModeBar: false, responsive: true })
      .then(() => place.on("plotly_click", (event) => clicked(name, event)));
  });

  const button = document.getElementById("theme-button");
  const name_theme = () => { button.textContent = root.dataset.theme === "dark" ? "Light" : "Dark"; };

  function theme(name, keep) {
    root.dataset.theme = name;
    if (keep) try { localStorage.setItem("landscape-theme", name); } catch (error) { /* a private window forgets */ }
    name_theme();
    const again = Object.entries(page.cards)
      .map(([card, { figure }]) => window.Plotly.react(graph(card), themed(figure.data), themed(figure.layout)));
    Promise.all(again).then(() => show(at));
  }

  button.addEventListener("click", () => theme(root.dataset.theme === "dark" ? "light" : "dark", true));
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (event) => {
    let chosen = root.dataset.begins || null;
    try { chosen = localStorage.getItem("landscape-theme") || chosen; } catch (error) { /* nothing is remembered */ }
    if (!chosen) theme(event.matches ? "dark" : "light", false);
  });
  name_theme();

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
  Promise.all(drawing).then(() => { from_address(); root.dataset.ready = "1"; });
})();
