// The slider of the app: its stops come in blocks, are kept while the page stands, and are replayed without the server.
(function () {
  "use strict";
  const FIRST = 8, BLOCK = 48, AHEAD = 12, REST = 200;
  let page = null;          // what the server said about the page that is shown
  let frames = new Map();   // value of the slider -> what it changes
  let wanted = null, drawn = null, planned = false, asking = false, resting = null;

  const set = (id, props) => window.dash_clientside.set_props(id, props);
  const card = (name) => document.querySelector(`section[data-card="${CSS.escape(name)}"]`);

  function show(info, index) {
    if (info !== page) {
      page = info;
      frames = new Map();
      drawn = info && info.slider ? info.slider.index : null;
    }
    wanted = index;
    if (page && page.slider && index !== null && !planned) {
      planned = true;
      requestAnimationFrame(() => { planned = false; draw(); });
    }
  }

  // Draws the newest stop that was asked for; those that came and went meanwhile are left out.
  function draw() {
    if (!page || !page.slider || wanted === null || wanted === drawn) return;
    const frame = frames.get(page.slider.values[wanted]);
    if (frame === undefined) { ask(wanted); return; }
    if (frame) {
      const hidden = apply(frame);
      clearTimeout(resting);
      if (hidden.length) resting = setTimeout(() => hidden.forEach((one) => one()), REST);
    }
    const direction = Math.sign(wanted - drawn);
    drawn = wanted;
    const next = wanted + AHEAD * direction;
    if (next in page.slider.values && !frames.has(page.slider.values[next])) ask(next);
  }

  // Plots that are scrolled out of sight wait until the slider rests.
  function apply(frame) {
    const later = [];
    const places = Object.entries(frame.cards)
      .map(([name, found]) => [name, found, card(name)])
      .filter(([, , place]) => place && place.querySelector("h2[id]"))
      .map(([name, found, place]) => {
        const box = place.getBoundingClientRect();
        return [name, found, place, box.bottom > 0 && box.top < window.innerHeight];
      });
    places.forEach(([name, found, place, visible]) => {
      const now = page;
      const one = () => {
        const plot = place.querySelector(".js-plotly-plot");
        if (plot && page === now) window.landscape_replay.move(plot, found.moves);
      };
      if (visible) one(); else later.push(one);
      [["title", "h2"], ["caption", ".caption"]].forEach(([type, selector]) => {
        const text = found[type];
        if (text && place.querySelector(selector).textContent !== text) set({ type, card: name }, { children: text });
      });
    });
    if (frame.kpis.length) set({ type: "kpis", index: "main" }, { children: components(frame.kpis) });
    return later;
  }

  // HTML as Dash's own components, so that React knows of it.
  function components(text) {
    const holder = document.createElement("template");
    holder.innerHTML = text;
    const made = (node) => (node.nodeType === Node.TEXT_NODE ? node.textContent : {
      namespace: "dash_html_components",
      type: node.tagName[0] + node.tagName.slice(1).toLowerCase(),
      props: { className: node.className, children: [...node.childNodes].map(made) },
    });
    return [...holder.content.childNodes].map(made);
  }

  async function ask(index) {
    if (asking) return;
    asking = true;
    const now = page, value = page.slider.values[index];
    const prefix = JSON.parse(document.getElementById("_dash-config").textContent).requests_pathname_prefix;
    let found = { values: [] };
    try {
      const size = frames.size ? BLOCK : FIRST;
      const answer = await fetch(`${prefix}${page.slider.steps.slice(1)}&at=${value}&count=${size}`,
        { cache: "no-store", credentials: "same-origin" });
      if (answer.ok) found = await answer.json();
    } catch (error) {
      found = null;  // the server does not answer: the next step asks again
    }
    asking = false;
    if (page === now && found) keep(found, value);
    if (page !== now || found) draw();
  }

  function keep(found, value) {
    const text = (place) => found.pool[place];
    found.values.forEach((at, i) => {
      const cards = Object.entries(found.cards).map(([name, c]) => [
        name, { moves: c.moves[i] || [], title: text(c.titles[i]), caption: text(c.captions[i]) },
      ]);
      frames.set(at, { cards: Object.fromEntries(cards), kpis: found.kpis[i].map(text).join("") });
    });
    if (!frames.has(value)) frames.set(value, null);  // it went meanwhile; the page is made anew soon
  }

  // Whoever reaches for the slider is about to move it.
  const reach = (event) => {
    if (page && page.slider && !frames.size && wanted !== null && event.target.closest && event.target.closest(".slider")) ask(wanted);
  };
  document.addEventListener("pointerover", reach);
  document.addEventListener("focusin", reach);

  window.landscape_scrub = { show };
})();
