/**
 * One device for the commands that a test file runs in its own process: most of what they take is compiling, and their
 * programs are largely the same. To a command it is a device of its own, whose buffers are gone once it is closed.
 */

/** Makes what `make` makes, once for each key. */
function once<Description, Made>(
  make: (description: Description) => Made,
  key: (description: Description) => unknown,
): (description: Description) => Made {
  const made = new Map<unknown, Made>();
  return (description) => {
    const name = key(description), object = made.get(name) ?? make(description);
    made.set(name, object);
    return object;
  };
}

/** A device that keeps what it compiled, and what makes an end of one command's use of it. */
interface Shared {
  device: GPUDevice;
  release: () => void;
  destroy: () => void;
}

function share(device: GPUDevice): Shared {
  const buffers: GPUBuffer[] = [], listeners: Parameters<EventTarget["addEventListener"]>[] = [];
  const destroy = device.destroy.bind(device);
  const createBuffer = device.createBuffer.bind(device);
  const addEventListener = device.addEventListener.bind(device);
  const createComputePipeline = device.createComputePipeline.bind(device);
  const release = () => {
    for (const buffer of buffers.splice(0)) buffer.destroy();
    for (const [type, listener] of listeners.splice(0)) device.removeEventListener(type, listener);
  };
  // A layout has one module for each WGSL, and a module one entry point.
  const pipelines = once(
    (_: GPUPipelineLayout) => once(createComputePipeline, ({ compute }) => compute.module),
    (layout) => layout,
  );
  Object.assign(device, {
    createBuffer(descriptor: GPUBufferDescriptor) {
      const buffer = createBuffer(descriptor);
      buffers.push(buffer);
      return buffer;
    },
    addEventListener(...args: Parameters<EventTarget["addEventListener"]>) {
      listeners.push(args);
      addEventListener(...args);
    },
    createShaderModule: once(device.createShaderModule.bind(device), ({ code }) => code),
    createBindGroupLayout: once(
      device.createBindGroupLayout.bind(device),
      ({ entries }) => JSON.stringify(entries),
    ),
    createPipelineLayout: once(
      device.createPipelineLayout.bind(device),
      ({ bindGroupLayouts: [only] }) => only,
    ),
    createComputePipeline: (descriptor: GPUComputePipelineDescriptor) =>
      pipelines(descriptor.layout as GPUPipelineLayout)(descriptor),
    destroy: release,
  });
  return { device, release, destroy };
}

/** By what was asked of the adapter. */
const devices = new Map<string, Shared>();
addEventListener("unload", () => devices.forEach(({ destroy }) => destroy()));

/**
 * From now on Deno's own WebGPU gives a shared device to whoever asks.
 *
 * @returns what ends that, and the use of those that were given.
 */
export function shareDevices(): () => void {
  const { gpu } = navigator;
  if (gpu === undefined) return () => {};
  const { requestAdapter } = gpu;
  gpu.requestAdapter = async (options) => {
    const adapter = await requestAdapter.call(gpu, options);
    if (adapter === null) return null;
    const requestDevice = adapter.requestDevice.bind(adapter);
    adapter.requestDevice = async (descriptor) => {
      const key = JSON.stringify(descriptor ?? {});
      const shared = devices.get(key) ?? share(await requestDevice(descriptor));
      devices.set(key, shared);
      return shared.device;
    };
    return adapter;
  };
  return () => {
    gpu.requestAdapter = requestAdapter;
    devices.forEach(({ release }) => release());
  };
}
