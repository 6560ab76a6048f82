// Changes of a plot, [operation, location, value] each, replayed: in the app and in frozen pages. A redraw of a plot
// costs some 30 ms; a cursor, a marker or a curve of a plot whose axes stand still needs none, or a part of it.
(function () {
  "use strict";
  const CURVE = new Set(["x", "y", "text", "customdata"]);  // of a trace; what a partial redraw may change
  const FEW = 4;  // points of a trace that are moved one by one
  const get = (thing, location) => location.reduce((t, key) => (t === undefined || t === null ? undefined : t[key]), thing);

  // Half-precision numbers, which plotly does not know, as floats.
  function unpacked(value) {
    if (!value || value.dtype !== "f2") return value;
    const bytes = Uint8Array.from(atob(value.bdata), (c) => c.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    return Float32Array.from({ length: bytes.length / 2 }, (_, i) => {
      const bits = view.getUint16(2 * i, true);
      const sign = bits & 0x8000 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
      if (exponent === 31) return fraction ? NaN : sign * Infinity;
      return sign * (exponent ? Math.pow(2, exponent - 15) * (1 + fraction / 1024) : Math.pow(2, -24) * fraction);
    });
  }

  function same(a, b) {
    if (a === b) return true;
    if (ArrayBuffer.isView(a) && ArrayBuffer.isView(b)) return a.length === b.length && a.every((v, i) => Object.is(v, b[i]));
    return JSON.stringify(a) === JSON.stringify(b);
  }

  // What really changes: [location, value] each, lists in full.
  function changes(plot, operations) {
    const found = new Map();
    operations.forEach(([operation, location, value]) => {
      const key = location.join("/");
      const before = found.has(key) ? found.get(key)[1] : get(plot, location);
      found.set(key, [location, operation === "Extend" ? (before || []).concat(value) : unpacked(value)]);
    });
    return [...found.values()].filter(([location, value]) => !same(get(plot, location), value));
  }

  // A copy of a thing in which only what changes is new, so that plotly sees the difference.
  function changed(thing, location, value) {
    if (!location.length) return value;
    const copy = Array.isArray(thing) ? thing.slice() : Object.assign({}, thing);
    copy[location[0]] = changed(copy[location[0]], location.slice(1), value);
    return copy;
  }

  function redraw(plot, list) {
    const figure = list.reduce((f, [location, value]) => changed(f, location, value), { data: plot.data, layout: plot.layout });
    return window.Plotly.react(plot, figure.data, figure.layout);
  }

  // Whether every axis keeps its range whatever is drawn.
  function stands(plot) {
    const layout = plot._fullLayout;
    const flat = layout && layout._plots && Object.values(layout._plots);
    return Boolean(flat && flat.length) && flat.every((p) => !p.xaxis.autorange && !p.yaxis.autorange);
  }

  // A vertical line over the whole plot: its path is moved, and the layout told.
  function cursor(plot, index, list) {
    const full = plot._fullLayout.shapes && plot._fullLayout.shapes[index];
    const axis = plot._fullLayout.xaxis;
    const place = {};
    list.forEach(([location, value]) => { place[location[3]] = value; });
    const drawn = plot.querySelector(`.shapelayer [data-index="${index}"]`);
    const path = drawn && (drawn.tagName === "path" ? drawn : drawn.querySelector("path"));
    const ends = path && /^M[-\d.e]+,([-\d.e]+)L[-\d.e]+,([-\d.e]+)$/.exec(path.getAttribute("d"));
    if (!full || !ends || full.type !== "line" || full.xref !== "x" || axis.type !== "linear" || place.x0 !== place.x1) return false;
    const x = axis._offset + axis.l2p(place.x0);
    path.setAttribute("d", `M${x},${ends[1]}L${x},${ends[2]}`);
    Object.assign(plot.layout.shapes[index], place);
    Object.assign(full, place);
    return true;
  }

  // A trace of few points, maybe with an arrow's head at the last: they are moved, and the trace told.
  const drawn = new WeakMap();  // an arrow's head -> its path, and the direction in which plotly drew that

  function marker(plot, index, place) {
    const full = plot._fullData[index], known = plot.calcdata && plot.calcdata[index];
    const whole = Object.keys(place).every((name) => name === "x" || name === "y");
    if (!whole || full.type !== "scatter" || !full.mode.includes("markers") || (full.fill && full.fill !== "none")) return false;
    const [x, y] = [place.x || full.x, place.y || full.y].map((v) => Array.from(v));
    const axes = plot._fullLayout._plots[full.xaxis + full.yaxis];
    const group = plot.querySelector(`.plot .trace${CSS.escape(full.uid)}`);
    const points = group ? [...group.querySelectorAll(".points path.point")] : [];
    const count = points.length;
    if (!count || count > FEW || [x, y, known || []].some((v) => v.length !== count)) return false;
    if (!axes || axes.xaxis.type !== "linear" || axes.yaxis.type !== "linear" || ![...x, ...y].every(Number.isFinite)) return false;
    const pixel = (cx, cy) => [axes.xaxis.c2p(cx), axes.yaxis.c2p(cy)];
    const before = known.map((c) => pixel(c.x, c.y)), after = x.map((v, i) => pixel(v, y[i]));
    points.forEach((point, i) => {
      let turn = 0;
      if (full.marker.angleref === "previous" && i === count - 1) {
        const path = point.getAttribute("d");
        if (!drawn.has(point) || drawn.get(point).path !== path) drawn.set(point, { path, towards: direction(before) });
        turn = direction(after) - drawn.get(point).towards;
      }
      point.setAttribute("transform", `translate(${after[i]})` + (turn ? ` rotate(${turn})` : ""));
    });
    const line = group.querySelector(".js-line");
    if (line) line.setAttribute("d", "M" + after.map((xy) => xy.join(",")).join("L"));
    [plot.data[index], full].forEach((trace) => Object.assign(trace, { x, y }));
    known.forEach((c, i) => Object.assign(c, { x: x[i], y: y[i] }));
    return true;
  }

  const direction = (points) => {
    const [[a, b], [c, d]] = points.slice(-2);
    return Math.atan2(d - b, c - a) * 180 / Math.PI;
  };

  // Curves of a plot are drawn again; its axes, legend and texts are not.
  function curves(plot, traces) {
    if (plot._fullData.some((trace) => trace.type !== "scatter")) return false;  // others would vanish
    const frame = { data: traces.map(([, values]) => values), traces: traces.map(([index]) => index) };
    window.Plotly.animate(plot, frame, { mode: "immediate", transition: { duration: 0 }, frame: { duration: 0, redraw: false } })
      .catch(() => null);  // the next step came before this one was drawn
    return true;
  }

  function move(plot, operations) {
    const list = changes(plot, operations);
    if (!list.length) return;
    if (!stands(plot)) { redraw(plot, list); return; }
    const shapes = new Map(), traces = new Map();
    for (const change of list) {
      const [[part, index, name], value] = change;
      if (part === "layout" && index === "shapes" && /^x[01]$/.test(change[0][3])) {
        shapes.set(name, [...(shapes.get(name) || []), change]);
      } else if (part === "data" && change[0].length === 3 && CURVE.has(name) && plot._fullData[index]) {
        traces.set(index, Object.assign(traces.get(index) || {}, { [name]: value }));
      } else {
        redraw(plot, list);
        return;
      }
    }
    const left = [...traces].filter(([index, values]) => !marker(plot, index, values));
    const done = [...shapes].every(([index, found]) => cursor(plot, index, found)) && (!left.length || curves(plot, left));
    if (!done) redraw(plot, list);
  }

  window.landscape_replay = { move };
})();
