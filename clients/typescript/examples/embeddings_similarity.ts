/** Which of these texts is closest to the question? */

import { Client } from "@parley-gateway/client";

const texts = ["Oslo is the capital of Norway.", "Bread needs flour, water and salt.", "Fjords are deep."];

const product = (a: Float32Array, b: Float32Array): number => a.reduce((sum, x, i) => sum + x * (b[i] ?? 0), 0);

/** Cosine of the angle between two vectors: 1 is the same direction. */
const similarity = (a: Float32Array, b: Float32Array): number => product(a, b) / Math.sqrt(product(a, a) * product(b, b));

const client = new Client();
const { vectors } = await client.embed("mock/embed", ["What is the capital of Norway?", ...texts]);
const [question, ...rest] = vectors as [Float32Array, ...Float32Array[]];
const scored = rest.map((vector, i) => ({ score: similarity(question, vector), text: texts[i] }));
for (const { score, text } of scored.sort((a, b) => b.score - a.score)) console.log(score.toFixed(3), text);
client.close();
