"use strict";
// Sorting by a column's head and filtering of the leaderboard; without it the tables read the same.
(() => {
  const value = (cell) => cell?.dataset.value ?? cell?.textContent.trim() ?? "";
  const missing = (word) => word === "" || word === "\u2013";
  const isNumber = (word) => !Number.isNaN(Number(word));
  const compare = (a, b) => isNumber(a) && isNumber(b)
    ? a - b : a.localeCompare(b, "en", { numeric: true });
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
    heads.forEach((head, column) => {
      const name = head.textContent.trim();
      if (!name || head.classList.contains("chart")) return;
      // Beside what the head says, which may be a link, and none stands in a button.
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-label", `sort by ${name}`);
      head.append(button);
      button.addEventListener("click", () => {
        const rows = [...body.rows].map((row) => [value(row.cells[column]), row]);
        const words = rows.map(([word]) => word).filter((word) => !missing(word));
        const before = head.getAttribute("aria-sort");
        // Best first: scores fall; words and what counts from the best one, like ranks, rise.
        const rising = before ? before === "descending"
          : head.dataset.first === "ascending" || !words.every(isNumber);
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", rising ? "ascending" : "descending");
        rows.sort(([a], [b]) => missing(a) - missing(b) || (rising ? 1 : -1) * compare(a, b));
        body.append(...rows.map(([, row]) => row));
      });
    });
  }
  const form = document.querySelector("[data-filters]");
  if (!form) return;
  form.hidden = false;
  const inputs = [...form.querySelectorAll("[data-key]")];
  const asked = () => Object.fromEntries(inputs.map((i) => [i.dataset.key, i.value.trim()]));
  const apply = () => {
    const want = asked();
    let shown = 0;
    for (const board of document.querySelectorAll("[data-board]")) {
      const fits = ["protocol", "dataset", "trunk", "status"]
        .every((key) => !want[key] || board.dataset[key] === want[key]);
      let rows = 0;
      for (const row of board.querySelectorAll("[data-row]")) {
        const here = fits && (!want.state || row.dataset.state === want.state)
          && row.dataset.name.toLowerCase().includes(want.name.toLowerCase());
        row.hidden = !here;
        rows += here ? 1 : 0;
      }
      board.hidden = rows === 0;
      shown += rows;
    }
    form.querySelector("[data-count]").textContent = shown === 1 ? "1 row" : `${shown} rows`;
    const words = new URLSearchParams(Object.entries(want).filter(([, word]) => word));
    history.replaceState(null, "", words.size ? `#${words}` : location.pathname + location.search);
  };
  const given = new URLSearchParams(location.hash.slice(1));
  for (const input of inputs) input.value = given.get(input.dataset.key) ?? "";
  form.addEventListener("input", apply);
  form.addEventListener("submit", (event) => event.preventDefault());
  if (given.size) apply();
})();
