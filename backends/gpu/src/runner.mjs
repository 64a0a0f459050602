// Runs the plan in this folder under WebGPU, in a browser or in node: no dependencies, no build step.
//
//   import { create, requiredLimits } from './runner.mjs';
//   const adapter = await navigator.gpu.requestAdapter();
//   const device = await adapter.requestDevice({ requiredLimits: await requiredLimits() });
//   const model = await create(device);
//   await model.init(42);                                                  // parameters from a seed, if the plan has `init`
//   const { loss } = await model.step({ x, label }, { lr: 0.01, seed: 42, step: 0 });
//
// Files are read from this module's own folder; pass another one, or a function from a file's name to its text, where they lie elsewhere.
// Tensors are typed arrays, row by row in the order of their axes: Float32Array, Int32Array, and Uint32Array of 0 and 1 for conditions.
// Parameters stay on the device. docs/gpu.md describes plan.json. Read `create` first.

const FORMAT = 'pushforward-device-plan';
const VERSION = 1;

/** What a device must have beyond WebGPU's defaults, for `requestDevice`. */
export async function requiredLimits(files) {
  const { plan } = await read(files);
  const limits = {};
  for (const [name, { bytes }] of Object.entries(needs(plan))) {
    if (bytes > (DEFAULTS[name] ?? 0)) limits[name] = bytes;
  }
  return limits;
}

/** Compiles the plan's kernels and allocates its tensors. */
export async function create(device, files) {
  const { plan, text } = await read(files);
  for (const [name, { bytes, what }] of Object.entries(needs(plan))) {
    if (device.limits[name] < bytes) {
      throw new Error(`${what} needs ${name} of ${bytes}, this device was requested with ${device.limits[name]}: pass requiredLimits() to requestDevice, or compile with --limits`);
    }
  }
  let lost = null;
  device.lost.then((info) => { lost = info; });
  const alive = () => {
    if (lost) throw new Error(`the device was lost: ${lost.message || lost.reason}`);
  };

  // Parameters by name, borders of entries by kind and name, slots by number: entries share them.
  const memory = new Map();
  const allocate = (key, bytes) => {
    const size = Math.max(4, Math.ceil(bytes / 4) * 4);
    if (!memory.has(key) || memory.get(key).size < size) {
      const usage = GPUBufferUsage.STORAGE | GPUBufferUsage.COPY_SRC | GPUBufferUsage.COPY_DST;
      memory.set(key, device.createBuffer({ label: key, size, usage }));
    }
    return memory.get(key);
  };
  for (const entry of Object.values(plan.entries)) {
    entry.slots.forEach((bytes, slot) => allocate(`slot ${slot}`, bytes));
    for (const b of entry.buffers) if (b.role !== 'slot') allocate(key(b), b.bytes);
  }

  const model = { plan, device, memory };
  for (const [name, entry] of Object.entries(plan.entries)) {
    const run = await prepare(device, entry, text, (b) => allocate(key(b), b.bytes));
    const called = async (inputs = {}, scalars = {}) => {
      alive();
      for (const given of Object.keys(inputs)) {
        if (!entry.buffers.some((b) => b.role === 'input' && b.name === given)) throw new Error(`${name} has no input \`${given}\``);
      }
      for (const b of entry.buffers) if (b.role === 'input') write(device, memory.get(key(b)), b, inputs[b.name]);
      run(scalars);
      const outputs = {};
      for (const b of entry.buffers) if (b.role === 'output') outputs[b.name] = await fetched(device, memory.get(key(b)), b);
      alive();
      return outputs;
    };
    // Parameters from a seed take nothing else.
    model[name] = name === 'init' ? (seed = 0) => called({}, { seed }) : called;
  }

  const states = new Map();
  for (const entry of Object.values(plan.entries)) {
    for (const b of entry.buffers) if (b.role === 'state') states.set(b.name, b);
  }
  const state = (name) => states.get(name) ?? fail(`no parameter is called \`${name}\`: there are ${[...states.keys()].join(', ')}`);
  /** Names of parameters, momentum included, in the plan's order. */
  model.parameters = [...states.keys()];
  model.set = (name, values) => { alive(); write(device, memory.get(key(state(name))), state(name), values); };
  model.get = async (name) => { alive(); return fetched(device, memory.get(key(state(name))), state(name)); };
  model.destroy = () => memory.forEach((buffer) => buffer.destroy());
  return model;
}

/** A function that sends all launches of an entry to the device, for values of its scalars. */
async function prepare(device, entry, text, bufferOf) {
  const scalars = scalarsOf(device, entry);
  const pipelines = new Map();
  const passes = [];
  for (const launch of entry.launches) {
    const kernel = entry.kernels[launch.kernel];
    const id = JSON.stringify([launch.kernel, launch.constants]);
    if (!pipelines.has(id)) pipelines.set(id, await compile(device, launch, kernel, await text(kernel.file)));
    const { pipeline, layouts } = pipelines.get(id);
    const entries = launch.arguments.map((at, binding) => {
      const b = entry.buffers[at];
      return { binding, resource: { buffer: bufferOf(b), size: Math.max(4, b.bytes) } };
    });
    const groups = [device.createBindGroup({ label: launch.kernel, layout: layouts[0], entries })];
    if (kernel.reads_scalars) {
      groups.push(device.createBindGroup({ layout: layouts[1], entries: [{ binding: 0, resource: { buffer: scalars.buffer } }] }));
    }
    passes.push({ pipeline, groups, grid: launch.grid });
  }
  return (values) => {
    scalars.write(values);
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    for (const { pipeline, groups, grid } of passes) {
      pass.setPipeline(pipeline);
      groups.forEach((group, i) => pass.setBindGroup(i, group));
      pass.dispatchWorkgroups(...grid);
    }
    pass.end();
    device.queue.submit([encoder.finish()]);
  };
}

/** Layouts are the plan's, not derived: an argument that a kernel does not touch has its place all the same. */
async function compile(device, launch, kernel, code) {
  const storage = ({ access }, binding) => (
    { binding, visibility: GPUShaderStage.COMPUTE, buffer: { type: access === 'read' ? 'read-only-storage' : 'storage' } }
  );
  const layouts = [device.createBindGroupLayout({ entries: kernel.arguments.map(storage) })];
  if (kernel.reads_scalars) {
    layouts.push(device.createBindGroupLayout({ entries: [{ binding: 0, visibility: GPUShaderStage.COMPUTE, buffer: { type: 'uniform' } }] }));
  }
  const module = device.createShaderModule({ label: launch.kernel, code });
  const compute = { module, entryPoint: launch.kernel, constants: launch.constants };
  const layout = device.createPipelineLayout({ bindGroupLayouts: layouts });
  const pipeline = await device.createComputePipelineAsync({ label: launch.kernel, layout, compute });
  return { pipeline, layouts };
}

/** The uniform buffer of an entry's scalars, four bytes each. */
function scalarsOf(device, entry) {
  const size = Math.max(16, Math.ceil(entry.scalars.length / 4) * 16);
  const buffer = device.createBuffer({ label: 'scalars', size, usage: GPUBufferUsage.UNIFORM | GPUBufferUsage.COPY_DST });
  const write = (values) => {
    const view = new DataView(new ArrayBuffer(size));
    entry.scalars.forEach(({ name, dtype }, i) => {
      const value = values[name] ?? fail(`the scalar \`${name}\` is missing: there are ${entry.scalars.map((s) => s.name).join(', ')}`);
      if (dtype === 'f32') view.setFloat32(4 * i, value, true);
      else if (dtype === 'i32') view.setInt32(4 * i, value, true);
      else view.setUint32(4 * i, value ? 1 : 0, true);
    });
    device.queue.writeBuffer(buffer, 0, view.buffer);
  };
  return { buffer, write };
}

const ARRAYS = { f32: Float32Array, i32: Int32Array, bool: Uint32Array };

function write(device, buffer, { name, dtype, bytes }, values) {
  if (values === undefined) fail(`the tensor \`${name}\` is missing`);
  if (!(values instanceof ARRAYS[dtype])) fail(`\`${name}\` is ${dtype}: it takes a ${ARRAYS[dtype].name}`);
  if (values.byteLength !== bytes) fail(`\`${name}\` has ${bytes / 4} elements, got ${values.length}`);
  device.queue.writeBuffer(buffer, 0, values);
}

async function fetched(device, buffer, { dtype, bytes }) {
  const size = Math.max(4, bytes);
  const staging = device.createBuffer({ size, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.COPY_DST });
  const encoder = device.createCommandEncoder();
  encoder.copyBufferToBuffer(buffer, 0, staging, 0, size);
  device.queue.submit([encoder.finish()]);
  await staging.mapAsync(GPUMapMode.READ);
  const values = new ARRAYS[dtype](staging.getMappedRange().slice(0, bytes));
  staging.destroy();
  return values;
}

/** What WebGPU guarantees. */
const DEFAULTS = {
  maxStorageBuffersPerShaderStage: 8,
  maxStorageBufferBindingSize: 128 * 2 ** 20,
  maxBufferSize: 256 * 2 ** 20,
  maxComputeInvocationsPerWorkgroup: 256,
  maxComputeWorkgroupSizeX: 256,
  maxComputeWorkgroupStorageSize: 16 * 2 ** 10,
  maxComputeWorkgroupsPerDimension: 65535,
};

/** The most that anything in the plan needs of each limit, and what that is. */
function needs(plan) {
  const most = {};
  const need = (limit, bytes, what) => {
    if (bytes > (most[limit]?.bytes ?? 0)) most[limit] = { bytes, what };
  };
  for (const entry of Object.values(plan.entries)) {
    for (const b of entry.buffers) {
      need('maxStorageBufferBindingSize', b.bytes, `tensor \`${b.name}\``);
      need('maxBufferSize', b.bytes, `tensor \`${b.name}\``);
    }
    entry.slots.forEach((bytes, slot) => need('maxBufferSize', bytes, `slot ${slot}`));
    for (const launch of entry.launches) {
      const kernel = entry.kernels[launch.kernel];
      const what = `kernel \`${launch.kernel}\``;
      need('maxStorageBuffersPerShaderStage', kernel.arguments.length, what);
      need('maxComputeInvocationsPerWorkgroup', launch.block, what);
      need('maxComputeWorkgroupSizeX', launch.block, what);
      need('maxComputeWorkgroupStorageSize', kernel.shared_bytes, what);
      need('maxComputeWorkgroupsPerDimension', Math.max(...launch.grid), what);
    }
  }
  return most;
}

const key = (b) => (b.role === 'slot' ? `slot ${b.index}` : `${b.role} ${b.name}`);

/** The plan, and what reads a file's text. */
async function read(files) {
  const text = typeof files === 'function' ? files : reader(files ?? new URL('.', import.meta.url));
  const plan = JSON.parse(await text('plan.json'));
  if (plan.format !== FORMAT || plan.target !== 'wgsl') fail(`plan.json is no ${FORMAT} for wgsl`);
  if (plan.version !== VERSION) fail(`plan.json is of version ${plan.version}, this runner reads ${VERSION}`);
  return { plan, text };
}

/** Files of a folder: a URL, or in node a path. */
function reader(folder) {
  const isNode = typeof process !== 'undefined' && process.versions?.node;
  return async (name) => {
    if (isNode && !/^https?:/.test(String(folder))) {
      const [{ readFile }, { pathToFileURL }] = await Promise.all([import('node:fs/promises'), import('node:url')]);
      const base = /^file:/.test(String(folder)) ? String(folder) : pathToFileURL(String(folder)).href;
      return readFile(new URL(name, base.endsWith('/') ? base : `${base}/`), 'utf8');
    }
    const base = new URL(folder, globalThis.location?.href);
    const url = new URL(name, base.href.endsWith('/') ? base : `${base.href}/`);
    const answer = await fetch(url);
    if (!answer.ok) fail(`${url}: ${answer.status}`);
    return answer.text();
  };
}

function fail(message) {
  throw new Error(message);
}
