// A bundle of tellapart, read and held to its card; and what it says of a picture, as `tellapart predict` does.

import * as ort from "./ort.mjs";
import { Novelty } from "./novelty.js";

const TOP = 5;
const TYPES = { F32: Float32Array, I64: BigInt64Array, U8: Uint8Array, F16: Uint16Array };

// Raised with a sentence for whoever looks at the page.
export class Refusal extends Error {}

export class Model {
  // `told(done, total)` hears of bytes as they come.
  static async load(told = () => {}) {
    const card = await (await got("card.json")).json();
    const names = ["model.onnx", "reference.safetensors", "selftest.safetensors", "ort.wasm"];
    const total = names.reduce((sum, name) => sum + card.sizes[name], 0);
    let done = 0;
    const contents = {};
    for (const name of names) contents[name] = await listed(name, card, (bytes) => told((done += bytes), total));
    ort.env.wasm.numThreads = 1;
    ort.env.wasm.wasmBinary = contents["ort.wasm"];
    ort.env.logLevel = "fatal";
    const session = await ort.InferenceSession.create(contents["model.onnx"], { executionProviders: ["wasm"] });
    const model = new Model(card, session, safetensors(contents["reference.safetensors"]));
    await model.prove(safetensors(contents["selftest.safetensors"]));
    return model;
  }

  constructor(card, session, arrays) {
    this.card = card;
    this.session = session;
    this.novelty = new Novelty(arrays);
  }

  // Refuses to go on where the bundle's own pictures are not answered as where it was made.
  async prove({ images, logits }) {
    const [, height, width] = images.shape, classes = logits.shape[1], one = height * width * 3;
    const found = await this.outputs(images.data.subarray(0, one), height, width);
    const expected = logits.data.subarray(0, classes);
    const most = Math.max(1, ...logits.data.map(Math.abs));
    const away = Math.max(...found.logits.map((value, place) => Math.abs(value - expected[place])));
    const allowed = this.card.lineage.precision === "int8" ? 0.05 : 0.001;
    if (!(away <= allowed * most)) throw new Refusal("This browser computes otherwise: the self-test fails.");
  }

  async outputs(pixels, height, width) {
    const image = new ort.Tensor("uint8", pixels, [1, height, width, 3]);
    const values = await this.session.run({ image }, ["logits", "embedding"]);
    const found = { logits: values.logits.data.slice(), embedding: values.embedding.data.slice() };
    for (const value of Object.values(values)) value.dispose();
    image.dispose();
    return found;
  }

  // `pixels` are RGB, height x width x 3.
  async answer({ pixels, height, width }) {
    const { logits, embedding } = await this.outputs(pixels, height, width);
    const highest = Math.max(...logits), raised = Array.from(logits, (value) => Math.exp(value - highest));
    const sum = raised.reduce((total, value) => total + value, 0);
    const probs = raised.map((value) => value / sum);
    const order = probs.map((_, place) => place).sort((first, second) => probs[second] - probs[first] || first - second);
    const top = order.slice(0, TOP).map((place) => ({ label: this.card.classes[place], prob: probs[place] }));
    const novelty = this.novelty.score(embedding, logits), { min_prob, max_novelty } = this.card.thresholds;
    const answer = !(novelty <= max_novelty) ? "unknown" : top[0].prob >= min_prob ? "label" : "unsure";
    return { label: top[0].label, prob: top[0].prob, probs, top, novelty, answer };
  }

  // The pixels of a file, a blob or a frame, as `predict` would decode them.
  async pixels(source) {
    const { decode, at_least_px } = this.card.preprocess;
    let bitmap;
    try {
      const colours = decode.colour_profiles === "ignore" ? "none" : "default";
      bitmap = await createImageBitmap(source, { colorSpaceConversion: colours });
    } catch {
      throw new Refusal("This is not a picture that the browser can read.");
    }
    const { width, height } = bitmap;
    const short = Math.min(width, height), long = Math.max(width, height);
    if (short < decode.min_side_px) throw new Refusal(`The picture is too small: ${width} x ${height}.`);
    if (long > decode.max_aspect * short) throw new Refusal(`The picture is too long: ${width} x ${height}.`);
    if (width * height > decode.max_pixels) throw new Refusal(`The picture has too many pixels: ${width} x ${height}.`);
    const canvas = new OffscreenCanvas(width, height);
    const paper = canvas.getContext("2d", { willReadFrequently: true });
    paper.fillStyle = `rgb(${decode.background.join(" ")})`;
    paper.fillRect(0, 0, width, height);
    paper.drawImage(bitmap, 0, 0);
    bitmap.close();
    const rgba = paper.getImageData(0, 0, width, height).data;
    const lossy = source.type === "image/jpeg" || !(source instanceof Blob);
    const step = lossy && at_least_px ? reduction(Math.floor(short / at_least_px)) : 1;
    return reduced(rgba, width, height, step);
  }
}

// Large JPEG files are decoded at 1/2, 1/4 or 1/8 by `predict`: means of squares come close.
function reduction(times) {
  return times >= 8 ? 8 : times >= 4 ? 4 : times >= 2 ? 2 : 1;
}

function reduced(rgba, width, height, step) {
  const across = Math.ceil(width / step), down = Math.ceil(height / step);
  const pixels = new Uint8Array(across * down * 3);
  for (let row = 0, at = 0; row < down; row++) {
    const top = row * step, bottom = Math.min(height, top + step);
    for (let column = 0; column < across; column++) {
      const left = column * step, right = Math.min(width, left + step);
      let red = 0, green = 0, blue = 0;
      for (let y = top; y < bottom; y++) {
        for (let place = (y * width + left) * 4, end = (y * width + right) * 4; place < end; place += 4) {
          red += rgba[place];
          green += rgba[place + 1];
          blue += rgba[place + 2];
        }
      }
      const count = (bottom - top) * (right - left);
      pixels[at++] = Math.round(red / count);
      pixels[at++] = Math.round(green / count);
      pixels[at++] = Math.round(blue / count);
    }
  }
  return { pixels, height: down, width: across };
}

async function got(name) {
  const answer = await fetch(new URL(name, import.meta.url));
  if (!answer.ok) throw new Refusal(`${name} is not beside this page.`);
  return answer;
}

// The bytes of a file that the card lists, of the size and the digest that it says.
async function listed(name, card, told) {
  const answer = await got(name), size = card.sizes[name], bytes = new Uint8Array(size);
  let length = 0;
  for (const reader = answer.body.getReader(); ; ) {
    const { done, value } = await reader.read();
    if (done) break;
    if (length + value.length > size) throw new Refusal(`${name} is not that of the card.`);
    bytes.set(value, length);
    length += value.length;
    told(value.length);
  }
  // Browsers compute digests only for pages from https and from this very machine.
  if (length !== size || (crypto.subtle && (await digest(bytes)) !== card.digests[name])) {
    throw new Refusal(`${name} is not that of the card. Take a fresh copy of the folder.`);
  }
  return bytes;
}

async function digest(bytes) {
  const found = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(found, (value) => value.toString(16).padStart(2, "0")).join("");
}

// The arrays of a safetensors file: {name: {shape, data}}; numbers of 16 bits are widened.
function safetensors(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const length = Number(view.getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length)));
  const arrays = {};
  for (const [name, { dtype, shape, data_offsets: ends }] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const content = bytes.slice(8 + length + ends[0], 8 + length + ends[1]);
    const data = new TYPES[dtype](content.buffer);
    arrays[name] = { shape, data: dtype === "F16" ? Float32Array.from(data, widened) : data };
  }
  return arrays;
}

function widened(half) {
  const sign = half & 0x8000 ? -1 : 1, exponent = (half >> 10) & 0x1f, rest = half & 0x3ff;
  if (exponent === 0) return sign * rest * 2 ** -24;
  if (exponent === 31) return rest ? NaN : sign * Infinity;
  return sign * (1 + rest / 1024) * 2 ** (exponent - 15);
}
