// Buttons that start and stop jobs, and those that copy a text. The token is this server's; no other site can read it.
(function () {
  "use strict";

  async function post(button, url, body) {
    const told = button.parentElement.querySelector(".told");
    button.disabled = true;
    try {
      const answer = await fetch(url, {
        method: "POST", credentials: "same-origin", body: JSON.stringify(body),
        headers: { "Content-Type": "application/json", "X-Landscape-Token": button.dataset.token },
      });
      const found = await answer.json();
      if (told) told.textContent = answer.ok ? (found.number ? `queued as number ${found.number}` : "") : found.error;
    } catch (error) {
      if (told) told.textContent = "the server does not answer";
    }
    setTimeout(() => { button.disabled = false; }, 1000);
  }

  function copy(button) {
    const text = button.closest(".copied").querySelector("code").textContent;
    const done = () => { button.textContent = "Copied"; setTimeout(() => { button.textContent = "Copy"; }, 1500); };
    if (navigator.clipboard) navigator.clipboard.writeText(text).then(done, () => window.prompt("Copy this", text));
    else window.prompt("Copy this", text);
  }

  document.addEventListener("click", (event) => {
    const button = event.target.closest && event.target.closest("button");
    if (!button) return;
    if (button.dataset.start) post(button, "/jobs/start", JSON.parse(button.dataset.start));
    else if (button.dataset.stop) post(button, "/jobs/stop", { number: button.dataset.stop });
    else if (button.dataset.copy) copy(button);
  });
})();
