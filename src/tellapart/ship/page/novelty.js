// How novel a picture is: tellapart's runtime/novelty.py, in the browser.

const METHODS = ["neighbours", "mahalanobis", "relative_mahalanobis", "energy", "max_logit"];
const NEIGHBOURS = 3;

export class Novelty {
  constructor(arrays) {
    this.quantiles = arrays.novelty_quantiles.data;
    this.mean = arrays.novelty_mean.data;
    this.reference = arrays.novelty_reference;
    this.methods = arrays.novelty_methods ? [...arrays.novelty_methods.data].map((place) => METHODS[Number(place)]) : null;
    this.arrays = arrays;
    let square = 0;
    for (const value of this.mean) square += value * value;
    this.smallest = 1e-6 * Math.sqrt(square) + 1e-30;
  }

  // The share of held-out training pictures that are less novel, 0 to 1.
  score(embedding, logits) {
    const raw = this.raw(embedding, logits), known = this.quantiles, count = known.length;
    if (Number.isNaN(raw)) return 1;
    let right = 0, end = count;
    while (right < end) {
      const middle = (right + end) >> 1;
      if (known[middle] < raw) right = middle + 1;
      else end = middle;
    }
    if (right === 0 || right === count) return right / count;
    const below = known[right - 1], above = known[right];
    return (right - 1 + (raw - below) / (above - below)) / count;
  }

  raw(embedding, logits) {
    if (!this.methods) return this.distance(embedding);
    if (![...embedding, ...logits].every(Number.isFinite)) return Infinity;
    const { novelty_centre: centre, novelty_weight: weight } = this.arrays;
    const best = logits.indexOf(Math.max(...logits)), classes = logits.length;
    let total = 0;
    this.methods.forEach((method, row) => {
      const place = row * classes + best;
      total += weight.data[place] * (this.one(method, embedding, logits) - centre.data[place]);
    });
    return total;
  }

  one(method, embedding, logits) {
    const highest = Math.max(...logits);
    if (method === "max_logit") return -highest;
    if (method === "energy") return -(highest + Math.log(logits.reduce((sum, value) => sum + Math.exp(value - highest), 0)));
    if (method === "neighbours") return this.distance(embedding);
    const [nearest, relative] = this.gaussian(embedding);
    return method === "mahalanobis" ? nearest : relative;
  }

  // The mean cosine distance to the nearest references, as seen from the mean.
  distance(embedding) {
    const wide = Float64Array.from(embedding, (value, place) => value - this.mean[place]);
    let square = 0;
    for (const value of wide) square += value * value;
    const length = Math.sqrt(square);
    if (!(length < Infinity)) return 2;
    const scale = length > this.smallest ? 1 / length : 0;
    const query = Float32Array.from(wide, (value) => value * scale);
    const [rows, width] = this.reference.shape, directions = this.reference.data;
    const nearest = [];
    for (let row = 0, at = 0; row < rows; row++) {
      let similar = 0;
      for (let place = 0; place < width; place++) similar += directions[at++] * query[place];
      nearest.push(similar);
      nearest.sort((first, second) => second - first);
      if (nearest.length > NEIGHBOURS) nearest.pop();
    }
    return Math.fround(1 - nearest.reduce((sum, value) => sum + value, 0) / nearest.length);
  }

  // The squared distance to the nearest class, and the same less that to the pictures as a whole.
  gaussian(embedding) {
    const mean = this.arrays.novelty_gaussian_mean.data, project = this.arrays.novelty_gaussian_project.data;
    const centres = this.arrays.novelty_gaussian_centres, variance = this.arrays.novelty_gaussian_variance.data;
    const [count, ranks] = centres.shape, within = new Float64Array(ranks);
    for (let place = 0, at = 0; place < mean.length; place++) {
      const away = Math.fround(embedding[place] - mean[place]);
      for (let rank = 0; rank < ranks; rank++) within[rank] += away * project[at++];
    }
    let nearest = Infinity, overall = 0;
    for (let one = 0; one < count; one++) {
      let sum = 0;
      for (let rank = 0; rank < ranks; rank++) {
        const away = within[rank] - centres.data[one * ranks + rank];
        sum += one === 0 ? (away * away) / variance[rank] : away * away;
      }
      if (one === 0) overall = sum;
      else nearest = Math.min(nearest, sum);
    }
    return [nearest, nearest - overall];
  }
}
