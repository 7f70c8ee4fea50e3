"use strict";
document.documentElement.classList.add("js");

// Tables sort by the number (or text) that a cell carries, whichever column's button is pressed.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = head.querySelector("button");
    if (!button) return;
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => row.cells[column].dataset.v ?? row.cells[column].textContent;
      const numeric = head.classList.contains("n");
      const order = (a, b) => (numeric ? Number(key(a)) - Number(key(b)) : key(a).localeCompare(key(b)));
      const rows = [...table.tBodies[0].rows].sort((a, b) => (up ? order(a, b) : order(b, a)));
      table.tBodies[0].append(...rows);
    });
  });
}

// A cell of the confusion matrix opens the pictures behind it.
const cards = [...document.querySelectorAll(".card[data-pair]")];
const status = document.getElementById("cards-shown");
const all = document.getElementById("cards-all");
const show = (pair) => {
  let shown = 0;
  for (const card of cards) {
    card.hidden = pair !== null && card.dataset.pair !== pair;
    shown += card.hidden ? 0 : 1;
  }
  all.hidden = pair === null;
  status.textContent = pair === null ? "" : `${shown} of ${cards.length} pictures shown. `;
};
if (all && status) {
  for (const link of document.querySelectorAll("a[data-pair]")) {
    link.addEventListener("click", () => show(link.dataset.pair));
  }
  all.addEventListener("click", () => show(null));
}

// Commands can be copied; where the browser forbids it, the text is selected instead.
for (const button of document.querySelectorAll("button.copy")) {
  button.hidden = false;
  const code = button.parentElement.querySelector("code");
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
    setTimeout(() => { button.textContent = "Copy"; }, 1600);
  });
}

// Paper cannot be clicked: all that is folded opens, and nothing stays filtered.
addEventListener("beforeprint", () => {
  for (const fold of document.querySelectorAll("details")) fold.open = true;
  if (all && !all.hidden) show(null);
});
