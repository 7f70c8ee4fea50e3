// What a person does with the page: pictures in, answers out.

import { Model, Refusal } from "./model.js";

const MOST = 60; // answers that stay on the page
const find = (id) => document.getElementById(id);
const percent = (share, digits = 1) => `${(100 * share).toFixed(digits)}%`;
const status = find("status");
let model = null, camera = null, waiting = Promise.resolve();

function tell(words, bad = false) {
  status.textContent = words;
  status.classList.toggle("bad", bad);
}

async function begin() {
  const loading = find("loading");
  loading.hidden = false;
  tell("Loading the model.");
  try {
    model = await Model.load((done, total) => (loading.value = done / total));
  } catch (error) {
    tell(error instanceof Refusal ? error.message : `The model cannot be run here: ${error.message}`, true);
    return;
  } finally {
    loading.hidden = true;
  }
  const { classes, metrics, backbone, lineage } = model.card;
  find("classes").textContent = listed(classes);
  find("facts").textContent = [accuracy(metrics.val), backbone, lineage.precision].filter(Boolean).join(" · ");
  find("controls").hidden = find("hint").hidden = false;
  find("start").hidden = !navigator.mediaDevices?.getUserMedia;
  document.body.dataset.ready = "yes";
  tell("Ready.");
}

function listed(classes) {
  const shown = classes.slice(0, 12).join(", ");
  return classes.length > 12 ? `${shown} and ${classes.length - 12} more` : shown;
}

function accuracy(metrics) {
  if (!metrics?.n) return "";
  const interval = metrics.accuracy_low === undefined ? "" : ` (${percent(metrics.accuracy_low, 0)} to ${percent(metrics.accuracy_high, 0)})`;
  return `${percent(metrics.accuracy, 0)} of ${metrics.n} validation pictures right${interval}`;
}

// One picture after the other, in the order given.
function take(sources) {
  for (const { source, name } of sources) waiting = waiting.then(() => show(source, name));
  return waiting;
}

async function show(source, name) {
  if (!model) return;
  tell(`Looking at ${name}.`);
  await new Promise((next) => setTimeout(next)); // lets the page be drawn
  const began = performance.now();
  try {
    const found = await model.answer(await model.pixels(source));
    add(source, name, found, performance.now() - began);
    tell(`${name}: ${said(found)}`);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    tell(`${name}: ${error.message}`, true);
  }
}

function said({ label, prob, novelty, answer }) {
  if (answer === "unknown") return `Unknown: unlike what the model was trained on. The nearest is ${label}.`;
  if (answer === "unsure") return `Not sure. The likeliest is ${label}, ${percent(prob)}.`;
  return `${label}, ${percent(prob)}.`;
}

function add(source, name, found, spent) {
  const card = find("card").content.cloneNode(true).firstElementChild;
  const image = card.querySelector("img");
  image.alt = name;
  image.src = URL.createObjectURL(source);
  Object.assign(card.dataset, { name, label: found.label, prob: found.prob, novelty: found.novelty, answer: found.answer });
  card.dataset.probs = JSON.stringify(found.probs);
  card.querySelector("h2").textContent = { label: found.label, unsure: `${found.label}?`, unknown: "unknown" }[found.answer];
  card.querySelector(".said").textContent = found.answer === "label" ? `${percent(found.prob)} sure` : said(found);
  for (const { label, prob } of found.top) {
    const row = document.createElement("li");
    const text = document.createElement("span"), number = document.createElement("span"), bar = document.createElement("meter");
    text.textContent = label;
    number.textContent = percent(prob);
    bar.value = prob;
    bar.setAttribute("aria-hidden", "true");
    row.append(text, number, bar);
    card.querySelector(".bars").append(row);
  }
  card.querySelector(".facts").textContent = `${name} · more novel than ${percent(found.novelty, 0)} of known pictures · ${Math.round(spent)} ms`;
  const answers = find("answers");
  answers.prepend(card);
  while (answers.children.length > MOST) {
    URL.revokeObjectURL(answers.lastElementChild.querySelector("img").src);
    answers.lastElementChild.remove();
  }
}

function files(list) {
  return [...(list ?? [])].map((file) => ({ source: file, name: file.name || "picture" }));
}

async function look() {
  try {
    camera = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch {
    tell("The camera cannot be used: allow it for this page, or choose a file.", true);
    return;
  }
  find("video").srcObject = camera;
  await find("video").play();
  seen(true);
  find("take").focus();
}

function seen(on) {
  for (const id of ["camera", "take", "stop"]) find(id).hidden = !on;
  find("start").hidden = on;
}

function leave() {
  for (const track of camera?.getTracks() ?? []) track.stop();
  camera = null;
  seen(false);
  find("start").focus();
}

async function shoot() {
  const video = find("video"), canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
  canvas.getContext("2d").drawImage(video, 0, 0);
  await take([{ source: await canvas.convertToBlob({ type: "image/png" }), name: "camera" }]);
}

find("files").addEventListener("change", (event) => {
  take(files(event.target.files));
  event.target.value = "";
});
find("start").addEventListener("click", look);
find("take").addEventListener("click", shoot);
find("stop").addEventListener("click", leave);
addEventListener("keydown", (event) => event.key === "Escape" && camera && leave());
addEventListener("paste", (event) => take(files(event.clipboardData?.files)));
addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("over");
});
addEventListener("dragleave", (event) => event.relatedTarget ?? document.body.classList.remove("over"));
addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("over");
  take(files(event.dataTransfer?.files));
});
begin();
