// Compiles WGSL with Tint, the compiler of Chromium's WebGPU, on Dawn's null back end: no driver, no device. Runs nothing.
// usage: node tint.mjs FILE.wgsl..       prints what Tint says, one line for each message; exit 1 on any error or warning
//
// Dawn for node is PUSHFORWARD_DAWN, the folder of its package `webgpu`, or what `.ci/tools` has installed in the repository's `target`.
// A file is compiled as a module and as a pipeline for each of its entry points, under WebGPU's default limits: only then are workgroup memory and
// the number of bindings looked at. Constants that the plan sets, `override`, get 0.

import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const installed = join(dirname(fileURLToPath(import.meta.url)), '../../../target/tools/dawn/node_modules/webgpu');
const { create, globals } = await import(pathToFileURL(join(process.env.PUSHFORWARD_DAWN ?? installed, 'index.js')));
Object.assign(globalThis, globals);

// Kept where it is never collected: everything of Dawn's ends with it.
globalThis.gpu = create(['backend=null']);
const adapter = await gpu.requestAdapter();
const device = await adapter.requestDevice();

let bad = 0;
for (const file of process.argv.slice(2)) {
  for (const message of await complaints(readFileSync(file, 'utf8'))) {
    console.log(`${file}:${message}`);
    bad += 1;
  }
}
device.destroy();
process.exit(bad === 0 ? 0 : 1);

/** What is wrong with a text, a line each. */
async function complaints(code) {
  const found = [];
  device.pushErrorScope('validation');
  const module = device.createShaderModule({ code });
  for (const m of (await module.getCompilationInfo()).messages) {
    if (m.type !== 'info') found.push(`${m.lineNum}:${m.linePos}: ${m.type}: ${m.message}`);
  }
  await device.popErrorScope();
  if (found.length > 0) return found;
  const constants = Object.fromEntries([...code.matchAll(/^\s*override (\w+)/gm)].map((m) => [m[1], 0]));
  for (const [, entryPoint] of code.matchAll(/@compute[^{]*?\bfn (\w+)/g)) {
    device.pushErrorScope('validation');
    device.createComputePipeline({ layout: 'auto', compute: { module, entryPoint, constants } });
    const error = await device.popErrorScope();
    if (error) found.push(`${entryPoint}: error: ${error.message.replaceAll('\n', ' ')}`);
  }
  return found;
}
