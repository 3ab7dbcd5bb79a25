/**
 * Division of f32 to the last bit: WGSL's own may be 2.5 units in the last place off.
 *
 * @module
 */

/**
 * WGSL of `divided(a, b) -> f32`, a/b rounded to the nearest, halves to even: for positive normal numbers whose
 * quotient is normal. Other quotients are those of WGSL's operator.
 */
export const DIVIDED = `
fn divided(a: f32, b: f32) -> f32 {
  let bits = vec2<u32>(bitcast<u32>(a), bitcast<u32>(b));
  let exponents = vec2<i32>(bits >> vec2<u32>(23u));
  var dividend = (bits.x & 0x7fffffu) | 0x800000u;
  let divisor = (bits.y & 0x7fffffu) | 0x800000u;
  var exponent = exponents.x - exponents.y + 127;
  if (dividend < divisor) {
    dividend *= 2u;
    exponent -= 1;
  }
  if (any(exponents < vec2<i32>(1)) || any(exponents > vec2<i32>(254)) || exponent < 1 || exponent > 253) {
    return a / b;
  }
  // An estimate is off by few units. So is the rest by few times the divisor: it is right modulo 2^32.
  var quotient = u32(f32(dividend) / f32(divisor) * 8388608.0);
  var rest = bitcast<i32>((dividend << 23u) - quotient * divisor);
  let step = i32(divisor);
  while (rest < 0) {
    rest += step;
    quotient -= 1u;
  }
  while (rest >= step) {
    rest -= step;
    quotient += 1u;
  }
  rest *= 2;
  if (rest > step || (rest == step && quotient % 2u == 1u)) { quotient += 1u; }
  // A quotient that was rounded up to the next power of two carries into the exponent.
  return bitcast<f32>((u32(exponent) << 23u) + (quotient - 0x800000u));
}`;
