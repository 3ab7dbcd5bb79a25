/** What is known of a device. */
import assert from "node:assert/strict";
import { deviceProfile } from "../../../kernels/gpu/device_profile.ts";
import { gpuTest } from "../harness.ts";

gpuTest("a device's profile has its own limits, and an H100's rates", (gpu) => {
  const { device } = gpu;
  const { limits } = device;
  const without = deviceProfile(device, { software: false, extensions: new Set() });
  assert.deepEqual(without, {
    processors: 132,
    memoryRate: 2.5e12,
    software: false,
    subgroup: 0,
    workgroupThreads: limits.maxComputeInvocationsPerWorkgroup,
    workgroupBytes: limits.maxComputeWorkgroupStorageSize,
  });
  const { subgroup } = deviceProfile(device, {
    software: true,
    extensions: new Set(["subgroups"]),
  });
  assert.ok(subgroup >= 4);
  assert.equal(gpu.profile.software, gpu.software);
  return Promise.resolve();
});
