//! Constants of f32 `exp`, `log`, `tanh` and `erf`, for targets that have none or none that are accurate. Coefficients of Cephes; those of erf
//! were fitted for this project. Those of `log` are `pushforward_ir::philox`'s. All go from the highest power down. Nothing is computed here.

/// `exp r` for |r| <= ln 2 / 2 is `1 + r + r^2 * p(r)`.
pub const EXP: [f32; 6] = [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
/// Where `exp` is 0 below, and infinity above.
pub const EXP_RANGE: [f32; 2] = [-104.0, 89.0];
/// `tanh x` for |x| < [`TANH_BOUND`] is `x + x^3 * p(x^2)`.
pub const TANH: [f32; 5] = [-5.704_988e-3, 2.063_908_5e-2, -5.373_971e-2, 1.333_144_2e-1, -3.333_328e-1];
pub const TANH_BOUND: f32 = 0.625;
/// `erf x` for |x| < [`ERF_BOUND`] is `x + x * p(x^2)`. Minimax, relative error 1.8e-8.
pub const ERF_NEAR: [f32; 6] = [-5.953_732e-4, 4.985_938_3e-3, -2.676_171_8e-2, 1.128_168_26e-1, -3.761_248e-1, 1.283_791_5e-1];
pub const ERF_BOUND: f32 = 0.93;
/// `log(1 - erf x)` for x between [`ERF_BOUND`] and 4 is `x * p(x) - x`. Minimax, error of the result 3e-9. `erf` is 1 from 3.92 on.
pub const ERF_FAR: [f32; 6] = [2.136_460_8e-4, -3.212_153e-3, 2.288_094_3e-2, -1.052_477_1e-1, -6.357_291e-1, -1.285_111_6e-1];
