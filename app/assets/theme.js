// Before the first paint: the reader's choice, else what a frozen page begins with, else the system's.
(function () {
  var chosen = null;
  try { chosen = localStorage.getItem("landscape-theme"); } catch (error) { chosen = null; }
  var system = window.matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light";
  var root = document.documentElement;
  root.dataset.theme = chosen === "dark" || chosen === "light" ? chosen : root.dataset.begins || system;
})();
