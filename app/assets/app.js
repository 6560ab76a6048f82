// The URL is the state: links, slider, plots, keys and theme all go through it. No library, no network.
(function () {
  "use strict";
  const root = document.documentElement;
  let info = null;   // what the server said about the page: title, slider values
  let index = null;  // the slider's present position
  let visits = 0;
  let shift = false;     // whether the last press held the shift key: plotly's clicks do not say
  let playing = null;    // the timer of a running playback

  const nothing = () => window.dash_clientside.no_update;
  const set = (id, props) => {
    if (document.getElementById("page")) window.dash_clientside.set_props(id, props);  // not before Dash has a layout
  };
  const here = () => ({ path: location.pathname, search: location.search, theme: root.dataset.theme, visit: ++visits });
  const go = () => set("place", { data: here() });

  function rewrite(change) {
    const url = new URL(location.href);
    const before = url.search;
    change(url.searchParams);
    if (url.search === before) return;
    history.replaceState(null, "", url);
    window.dispatchEvent(new Event("landscape-moved"));
  }

  function select(next) {
    if (!info || !info.slider || index === null) return;
    const last = info.slider.values.length - 1;
    const value = Math.min(Math.max(next, 0), last);
    if (value !== index) set({ type: "slider", index: "main" }, { value });
  }

  function nearest(values, x) {
    let best = 0;
    values.forEach((v, i) => { if (Math.abs(v - x) < Math.abs(values[best] - x)) best = i; });
    return best;
  }

  // The slider has no property for its name, and its script arrives after the page.
  function label_slider(patience) {
    if (!info || !info.slider || index === null) return;
    document.querySelectorAll("[data-name] [role=slider]").forEach(
      (knob) => knob.setAttribute("aria-label", knob.closest("[data-name]").dataset.name));
    const thumb = document.querySelector("[data-label] [role=slider]");
    if (!thumb) {
      if (patience > 0) setTimeout(() => label_slider(patience - 1), 100);
      return;
    }
    thumb.setAttribute("aria-label", info.slider.label);
    thumb.setAttribute("aria-valuetext", info.slider.texts[index]);
  }

  window.dash_clientside = Object.assign({}, window.dash_clientside, {
    landscape: {
      // First load, a control that changed, or files that changed on disk: where are we?
      locate: function (_boot, values, _changed, ids) {
        const triggered = window.dash_clientside.callback_context.triggered.map((t) => t.prop_id);
        if (!triggered.length || triggered.some((p) => !p.includes('"control"'))) return here();
        const before = location.search;
        rewrite((query) => ids.forEach((id, i) => {
          const value = values[i] === null || values[i] === undefined ? "" : String(values[i]);
          if ((query.get(id.name) ?? id.default) === value) return;
          if (value === id.default || value === "") query.delete(id.name); else query.set(id.name, value);
          if (id.name === "q") query.delete("page");
        }));
        return location.search === before ? nothing() : here();
      },

      // The slider moved, or a page arrived: keep URL, title and names for screen readers in step.
      address: function (page, values) {
        info = page || null;
        index = values && values.length && values[0] !== null ? values[0] : null;
        window.landscape_scrub.show(info, index);
        if (!info) return nothing();
        document.title = info.title + " · Landscape";
        const slider = info.slider;
        if (slider && index !== null && slider.values[index] !== undefined) {
          rewrite((query) => {
            if (!query.has(slider.name) && index === slider.index) return;
            query.set(slider.name, String(slider.values[index]));
          });
        }
        setTimeout(() => label_slider(100), 0);
        return nothing();
      },

      // A click on a time axis, a trajectory or a path selects what lies nearest.
      click: function (_clicks, page, values) {
        const triggered = window.dash_clientside.callback_context.triggered[0];
        const point = triggered && triggered.value && triggered.value.points && triggered.value.points[0];
        if (!point || !page || !page.slider || !values.length) return values.map(nothing);
        let x = null;
        const pinning = shift && document.querySelector("[data-pin]");
        if (typeof point.customdata === "number") x = point.customdata;
        else if (Array.isArray(point.customdata) && typeof point.customdata[0] === "number") x = point.customdata[0];
        else if (triggered.prop_id.includes("over") || triggered.prop_id.includes("training") || triggered.prop_id.includes("along"))
          x = page.slider.log ? Math.pow(10, point.x) - 1 : point.x;
        if (x !== null && pinning) {
          pin(String(page.slider.values[nearest(page.slider.values, x)]));
          return values.map(nothing);
        }
        return values.map(() => (x === null ? nothing() : nearest(page.slider.values, x)));
      },

      // A range dragged on a card that opens windows: go to that window of the training.
      drag: function (_layouts, page) {
        const triggered = window.dash_clientside.callback_context.triggered[0];
        const range = triggered && triggered.value;
        const name = triggered && JSON.parse(triggered.prop_id.replace(/\.relayoutData$/, "") || "{}").card;
        const target = name && document.querySelector(`[data-window="${name}"]`);
        if (!target || !page || !page.slider || !range || range["xaxis.range[0]"] === undefined) return nothing();
        const ends = [range["xaxis.range[0]"], range["xaxis.range[1]"]]
          .map((x) => Math.max(0, Math.round(page.slider.log ? Math.pow(10, x) - 1 : x)));
        const url = new URL(target.href, location.href);
        url.searchParams.set("window", ends.join(":"));
        travel(url, target.dataset.keep);
        return nothing();
      },
    },
  });

  // Ask what changed on disk: often while something happens, seldom while nothing does, never while nobody looks.
  const OFTEN = 2500, SELDOM = 10000, QUIET = 60000, PATIENCE = 15000;
  let cursor = "", news = Date.now(), waiting_poll = null, asking = false;

  async function poll() {
    clearTimeout(waiting_poll);
    if (asking) return;
    asking = true;
    try {
      if (info && !document.hidden) await ask(info);
    } finally {
      asking = false;
      const pace = Date.now() - news < QUIET || document.querySelector("#jobs .job") ? OFTEN : SELDOM;
      waiting_poll = document.hidden ? null : setTimeout(poll, pace);
    }
  }

  async function ask(page) {
    const prefix = JSON.parse(document.getElementById("_dash-config").textContent).requests_pathname_prefix;
    const query = new URLSearchParams([...page.runs.map((run) => ["runs", run]), ["seen", cursor]]);
    let answer = null;
    try {
      answer = await fetch(`${prefix}live?${query}`, { cache: "no-store", signal: AbortSignal.timeout(PATIENCE) });
      if (!answer.ok) throw new Error(String(answer.status));
    } catch (error) {
      return lose(answer);
    }
    lose(null, true);
    if (answer.status === 204) return;
    const found = await answer.json();
    if (page !== info) return;  // the reader went on meanwhile
    cursor = found.cursor;
    news = Date.now();
    set("jobs", { children: found.jobs });
    if (found.signature !== page.signature) set("changed", { data: found.signature });
  }

  function lose(answer, again) {
    const place = document.getElementById("lost");
    if (!place) return;
    if (again) { place.textContent = ""; return; }
    if (place.textContent) return;
    place.textContent = answer && answer.status === 401
      ? "The server was started anew with another token: open the address that it printed."
      : `Lost the server at ${new Date().toLocaleTimeString()}. What is on the screen stands; trying again.`;
  }

  // One value of the URL that the server draws: which step stays in the plots.
  function pin(value) {
    rewrite((query) => { if (value === null || query.get("pin") === value) query.delete("pin"); else query.set("pin", value); });
    go();
  }

  function toggle_pin() {
    const pinned = new URL(location.href).searchParams.has("pin");
    if (pinned) pin(null); else if (info && info.slider && index !== null) pin(String(info.slider.values[index]));
  }

  function play() {
    if (playing) { clearInterval(playing); playing = null; return; }
    if (!info || !info.slider) return;
    if (index === info.slider.values.length - 1) select(0);
    let before = null;  // the next step waits until the last one has been drawn
    playing = setInterval(() => {
      if (!info || !info.slider || index === null || index >= info.slider.values.length - 1) { play(); return; }
      if (index === before) return;
      before = index;
      select(index + 1);
    }, 400);
  }

  function jump(direction) {
    const marked = (info && info.slider && info.slider.marked) || [];
    const found = direction > 0 ? marked.find((i) => i > index) : marked.filter((i) => i < index).pop();
    if (found !== undefined) select(found);
  }

  function travel(url, keep) {
    const now = new URL(location.href).searchParams;
    (keep || "").split(" ").forEach((name) => { if (name && now.has(name)) url.searchParams.set(name, now.get(name)); });
    history.pushState(null, "", url);
    go();
  }

  function follow(event) {
    const link = event.target.closest && event.target.closest("a[href]");
    if (!link || event.defaultPrevented || event.button || event.metaKey || event.ctrlKey || event.shiftKey) return;
    const url = new URL(link.href, location.href);
    if (url.origin !== location.origin || link.target === "_blank") return;
    const now = new URL(location.href).searchParams;
    (link.dataset.keep || "").split(" ").forEach((name) => {
      if (name && now.has(name)) url.searchParams.set(name, now.get(name));
    });
    if (link.dataset.file) { link.href = url.href; return; }
    if (url.hash && url.pathname === location.pathname) return;
    event.preventDefault();
    if (url.href !== location.href) history.pushState(null, "", url);
    window.scrollTo(0, 0);
    go();
  }

  function copy(button) {
    const done = () => { button.textContent = "Copied"; setTimeout(() => { button.textContent = "Copy link"; }, 1500); };
    const failed = () => window.prompt("Copy this link", location.href);
    if (navigator.clipboard) navigator.clipboard.writeText(location.href).then(done, failed); else failed();
  }

  function show_theme() {
    const button = document.getElementById("theme-button");
    if (button) button.textContent = root.dataset.theme === "dark" ? "Light" : "Dark";
  }

  function theme(name, keep) {
    root.dataset.theme = name;
    if (keep) try { localStorage.setItem("landscape-theme", name); } catch (error) { /* a private window forgets */ }
    show_theme();
    go();
  }

  document.addEventListener("mousedown", (event) => { shift = event.shiftKey; }, true);
  document.addEventListener("click", (event) => {
    const target = event.target;
    if (target.id === "copy-link") copy(target);
    else if (target.id === "theme-button") theme(root.dataset.theme === "dark" ? "light" : "dark", true);
    else if (target.dataset && target.dataset.pin) toggle_pin();
    else follow(event);
  });

  document.addEventListener("keydown", (event) => {
    const box = event.key === " " && event.target.closest("a[role=checkbox]");
    if (box) { event.preventDefault(); box.click(); return; }
    if (event.altKey || event.ctrlKey || event.metaKey || index === null) return;
    if (event.target.closest("input, textarea, select, [role=slider], [role=combobox], [role=listbox], pre")) return;
    if (event.key === " " && !event.target.closest("a, button")) { event.preventDefault(); play(); return; }
    if (event.key === "[" || event.key === "]") { jump(event.key === "]" ? 1 : -1); return; }
    const moves = { ArrowLeft: index - 1, ArrowRight: index + 1, Home: 0, End: Infinity };
    if (!(event.key in moves)) return;
    event.preventDefault();
    select(moves[event.key]);
  });

  window.addEventListener("popstate", go);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) poll(); });
  setTimeout(poll, OFTEN);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (event) => {
    let chosen = null;
    try { chosen = localStorage.getItem("landscape-theme"); } catch (error) { chosen = null; }
    if (!chosen) theme(event.matches ? "dark" : "light", false);
  });
  new MutationObserver(show_theme).observe(document.body, { childList: true, subtree: false });
  const waiting = setInterval(() => {
    if (document.getElementById("theme-button")) { show_theme(); clearInterval(waiting); }
  }, 50);
})();
