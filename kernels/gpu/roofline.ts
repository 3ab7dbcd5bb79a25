/**
 * The roofline model: a program of `flops` operations on `bytes` bytes of memory is bound by the compute roof or by
 * the bandwidth roof, whichever takes longer. Source: Williams, Waterman and Patterson, "Roofline", 2009.
 *
 * @module
 */

/** What a device was seen to reach. */
export interface Roofs {
  /** Copying, bytes read plus written a second. */
  bandwidth: number;
  /** The best matrix product, floating-point operations a second. */
  matmul: number;
}

/** Work, and the seconds that it took. */
export interface Measured {
  flops: number;
  bytes: number;
  seconds: number;
}

/** The roof that binds, and how close the work came to it (1 is at the roof). */
export interface Limit {
  roof: keyof Roofs;
  share: number;
}

/** Arithmetic intensity decides: below `matmul / bandwidth` operations a byte it is the bandwidth. */
export function limitOf({ flops, bytes, seconds }: Measured, roofs: Roofs): Limit {
  const least = { bandwidth: bytes / roofs.bandwidth, matmul: flops / roofs.matmul };
  const roof = least.bandwidth >= least.matmul ? "bandwidth" : "matmul";
  return { roof, share: least[roof] / seconds };
}
