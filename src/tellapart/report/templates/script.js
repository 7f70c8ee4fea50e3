"use strict";
document.documentElement.classList.add("js");
const by = (id) => document.getElementById(id);
const every = (selector, within = document) => [...within.querySelectorAll(selector)];

// The colours follow the system, or what is chosen here.
const themes = ["auto", "light", "dark"];
const theme = by("theme");
theme.hidden = false;
theme.addEventListener("click", () => {
  const next = themes[(themes.indexOf(document.documentElement.dataset.theme ?? "auto") + 1) % themes.length];
  if (next === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  theme.textContent = `Theme: ${next}`;
});

// The contents mark the section that is being read.
const links = new Map(every("nav a").map((link) => [link.hash.slice(1), link]));
const seen = new IntersectionObserver((changes) => {
  for (const change of changes) {
    if (!change.isIntersecting) continue;
    for (const [id, link] of links) {
      if (id === change.target.id) link.setAttribute("aria-current", "location");
      else link.removeAttribute("aria-current");
    }
  }
}, { rootMargin: "-20% 0px -75% 0px" });
for (const section of every("main > section")) seen.observe(section);

// Tables sort by the number (or text) that a cell carries, whichever column's button is pressed.
for (const table of every("table.sortable")) {
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

// A count of the confusion matrix opens the pictures behind it, on a sheet over the page.
const copies = (nodes) => [...nodes].map((node) => node.cloneNode(true));
for (const link of every('a[href^="#cell-"]')) {
  link.setAttribute("aria-haspopup", "dialog");
  link.addEventListener("click", (event) => {
    const cell = by(link.getAttribute("href").slice(1));
    event.preventDefault();
    by("sheet-h").replaceChildren(...copies(cell.querySelector("h3").childNodes));
    by("sheet-pictures").replaceChildren(...copies(cell.querySelector(".gallery").children));
    by("sheet").showModal();
  });
}

// A picture opens large, with all that was said of it; arrows go through its gallery.
let gallery = [];
let at = 0;
const turn = (to) => {
  at = (to + gallery.length) % gallery.length;
  by("light-picture").replaceChildren(...copies([gallery[at].querySelector(".pic")]));
  by("light-words").replaceChildren(...copies([gallery[at].querySelector("figcaption")]));
  by("light-words").className = `words ${gallery[at].classList.contains("wrong") ? "wrong" : "right"}`;
  by("light-at").textContent = `${at + 1} of ${gallery.length}`;
};
document.addEventListener("click", (event) => {
  const button = event.target.closest(".open");
  if (!button) return;
  gallery = every("figure", button.closest(".gallery")).filter((figure) => !figure.hidden);
  turn(gallery.indexOf(button.closest("figure")));
  by("light").showModal();
});
by("light-back").addEventListener("click", () => turn(at - 1));
by("light-on").addEventListener("click", () => turn(at + 1));
by("light").addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") turn(at - 1);
  if (event.key === "ArrowRight") turn(at + 1);
});
for (const dialog of every("dialog")) {
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
}

// A gallery shows the pictures of one class: those that are it, and those that were called it.
const shown = (filter, wanted) => {
  const figures = every("figure", by(filter.dataset.gallery));
  for (const figure of figures) figure.hidden = wanted !== "" && !figure.dataset.classes.includes(` ${wanted} `);
  for (const fold of every("details", by(filter.dataset.gallery))) fold.open = fold.open || wanted !== "";
  const left = figures.filter((figure) => !figure.hidden).length;
  filter.querySelector("[role=status]").textContent = wanted === "" ? "" : `${left} of ${figures.length} pictures`;
};
for (const filter of every(".filter")) {
  filter.hidden = false;
  const choice = filter.querySelector("select");
  choice.addEventListener("change", () => shown(filter, choice.value));
}

// Commands can be copied; where the browser forbids it, the text is selected instead.
for (const button of every("button.copy")) {
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

// Paper cannot be clicked: what is folded opens, but for the pictures behind the counts, and nothing stays filtered.
addEventListener("beforeprint", () => {
  for (const fold of every("details:not(.behind)")) fold.open = true;
  for (const filter of every(".filter")) {
    filter.querySelector("select").value = "";
    shown(filter, "");
  }
});
