// Before the first paint: the reader's choice, else the system's.
(function () {
  var chosen = null;
  try { chosen = localStorage.getItem("landscape-theme"); } catch (error) { chosen = null; }
  var system = window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  document.documentElement.dataset.theme = chosen === "dark" || chosen === "light" ? chosen : system;
})();
