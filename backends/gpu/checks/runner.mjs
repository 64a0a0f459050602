// Trains with the `runner.mjs` of a package under Dawn for node, and prints what comes out as JSON: the first numbers of each parameter after
// `init`, the loss of each step, what `eval` gives, and what is said about wrong calls.
// usage: node runner.mjs FOLDER STEPS       inputs are the same function of an element's number as in the test that calls this

import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const installed = join(dirname(fileURLToPath(import.meta.url)), '../../../target/tools/dawn/node_modules/webgpu');
const { create: dawn, globals } = await import(pathToFileURL(join(process.env.PUSHFORWARD_DAWN ?? installed, 'index.js')));
Object.assign(globalThis, globals);
// Kept where it is never collected: everything of Dawn's ends with it.
globalThis.gpu = dawn([]);

const [folder, steps] = process.argv.slice(2);
const { create, requiredLimits } = await import(pathToFileURL(join(folder, 'runner.mjs')));
const adapter = await gpu.requestAdapter();
const device = await adapter.requestDevice({ requiredLimits: await requiredLimits() });
const faults = [];
device.onuncapturederror = ({ error }) => faults.push(error.message);
const model = await create(device);

await model.init(42);
const parameters = {};
for (const name of model.parameters) parameters[name] = Array.from((await model.get(name)).slice(0, 64));

const inputs = {};
for (const { name, dtype, bytes, role } of model.plan.entries.step.buffers) {
  if (role !== 'input') continue;
  const length = bytes / 4;
  inputs[name] = dtype === 'f32' ? Float32Array.from({ length }, (_, i) => (i % 17) / 17) : Int32Array.from({ length }, (_, i) => i % 10);
}
const losses = [];
for (let step = 0; step < Number(steps); step += 1) losses.push((await model.step(inputs, { lr: 0.1, seed: 42, step })).loss[0]);
const { logits } = await model.eval({ images: inputs.images });

const said = [];
for (const wrong of [
  () => model.step({}, {}),
  () => model.step({ ...inputs, pictures: inputs.images }, {}),
  () => model.step(inputs, { lr: 0.1, seed: 42 }),
  () => model.step({ ...inputs, images: inputs.images.slice(1) }, {}),
  () => model.step({ ...inputs, labels: inputs.images }, {}),
  () => model.get('nothing'),
]) {
  try {
    await wrong();
    said.push('nothing');
  } catch (error) {
    said.push(error.message);
  }
}
device.destroy();
await device.lost;
try {
  await model.step(inputs, { lr: 0.1, seed: 42, step: 0 });
  said.push('nothing');
} catch (error) {
  said.push(error.message);
}
console.log(JSON.stringify({ adapter: adapter.info.description, parameters, losses, logits: Array.from(logits), said, faults }));
process.exit(0);
