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

// What was decided, by picture: a picture that several findings name has one choice.
const choices = new Map();
const labels = every("#class option").map((option) => JSON.parse(option.dataset.label));
const figures = new Map();
const keyOf = (figure) => `${figure.dataset.path} ${figure.dataset.sha}`;
for (const figure of every(".suspect")) {
  if (!figures.has(keyOf(figure))) figures.set(keyOf(figure), []);
  figures.get(keyOf(figure)).push(figure);
}
for (const choice of every(".choices")) choice.hidden = false;
let saved = true;

const told = () => {
  const count = { keep: 0, relabel: 0, drop: 0 };
  for (const { action } of choices.values()) count[action] += 1;
  by("chosen").textContent = `${count.keep} to keep, ${count.relabel} to relabel, ${count.drop} to drop`;
  by("save").hidden = choices.size === 0;
};
const decide = (figure, action, label) => {
  const key = keyOf(figure);
  const before = choices.get(key);
  const same = before && before.action === action && before.label === label;
  if (same) choices.delete(key);
  else choices.set(key, { action, label, path: figure.dataset.path, sha: figure.dataset.sha });
  for (const one of figures.get(key)) {
    if (same) delete one.dataset.choice;
    else one.dataset.choice = action;
    for (const button of every(".choices button", one)) {
      const pressed = !same && button.dataset.action === action;
      button.setAttribute("aria-pressed", String(pressed));
      if (button.dataset.action === "relabel") button.textContent = pressed ? `→ ${label}`.slice(0, 24) : "Relabel";
    }
  }
  saved = false;
  told();
};

let asked = null;
document.addEventListener("click", (event) => {
  const button = event.target.closest(".choices button");
  if (!button) return;
  const figure = button.closest(".suspect");
  if (button.dataset.action !== "relabel") {
    decide(figure, button.dataset.action, "");
    return;
  }
  const chosen = choices.get(keyOf(figure));
  if (chosen && chosen.action === "relabel") {
    decide(figure, "relabel", chosen.label);
    return;
  }
  asked = figure;
  by("class").value = figure.dataset.suggested;
  by("ask").showModal();
});
by("give").addEventListener("click", () => {
  const label = labels[Number(by("class").value)];
  if (asked && by("class").value !== "" && label !== undefined) decide(asked, "relabel", label);
  by("ask").close();
});
for (const dialog of every("dialog")) {
  dialog.querySelector(".close").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
}

// A cell that a spreadsheet would run as a formula gets a leading ', which check and train take off again; so does one
// that begins as such a cell does.
const cell = (text) => {
  const guarded = /^'*[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]|^\s|\s$/.test(guarded) ? `"${guarded.replaceAll('"', '""')}"` : guarded;
};
const csv = () => {
  const lines = [["path", "sha256", "action", "label"]];
  for (const { path, sha, action, label } of choices.values()) {
    lines.push([path ? cell(JSON.parse(path)) : "", sha, action, cell(label)]);
  }
  return `${lines.map((line) => line.join(",")).join("\n")}\n`;
};
by("download").addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([csv()], { type: "text/csv" }));
  link.download = "corrections.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
  saved = true;
});
by("show").addEventListener("click", () => {
  by("csv").value = csv();
  by("text").showModal();
  by("csv").select();
});
addEventListener("beforeunload", (event) => {
  if (!saved && choices.size) event.preventDefault();
});
