// The URL is the state: links, slider, plots, keys and theme all go through it. No library, no network.
(function () {
  "use strict";
  const root = document.documentElement;
  let info = null;   // what the server said about the page: title, slider values
  let index = null;  // the slider's present position
  let visits = 0;

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
        if (typeof point.customdata === "number") x = point.customdata;
        else if (Array.isArray(point.customdata) && typeof point.customdata[0] === "number") x = point.customdata[0];
        else if (triggered.prop_id.includes("over") || triggered.prop_id.includes("training") || triggered.prop_id.includes("along"))
          x = page.slider.log ? Math.pow(10, point.x) - 1 : point.x;
        return values.map(() => (x === null ? nothing() : nearest(page.slider.values, x)));
      },
    },
  });

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

  document.addEventListener("click", (event) => {
    const target = event.target;
    if (target.id === "copy-link") copy(target);
    else if (target.id === "theme-button") theme(root.dataset.theme === "dark" ? "light" : "dark", true);
    else follow(event);
  });

  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.ctrlKey || event.metaKey || index === null) return;
    if (event.target.closest("input, textarea, select, [role=slider], [role=combobox], [role=listbox], pre")) return;
    const moves = { ArrowLeft: index - 1, ArrowRight: index + 1, Home: 0, End: Infinity };
    if (!(event.key in moves)) return;
    event.preventDefault();
    select(moves[event.key]);
  });

  window.addEventListener("popstate", go);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", (event) => {
    let chosen = null;
    try { chosen = localStorage.getItem("landscape-theme"); } catch (error) { chosen = null; }
    if (!chosen) theme(event.matches ? "dark" : "light", false);
  });
  document.addEventListener("visibilitychange", () => set("tick", { disabled: document.hidden }));
  new MutationObserver(show_theme).observe(document.body, { childList: true, subtree: false });
  const waiting = setInterval(() => {
    if (document.getElementById("theme-button")) { show_theme(); clearInterval(waiting); }
  }, 50);
})();
