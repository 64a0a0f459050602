//! What theory says of the variance of forward-gradient estimators, exactly and for finite sizes.
//!
//! A layer has p inputs and q outputs; x is its input for an example, d the derivative of the example's loss by its q outputs, and the gradient
//! of its n = p q weights is g = x d^T. Examples are drawn independently. E[g] = m is the exact gradient, S = |m|^2, V = E|g - m|^2; both are
//! sums over the entries. Noise is standard normal; u and v below are that of the layer, and "all" is everything that noise is on: the layer
//! alone, or more of the network. The estimate is the mean over a batch of N; [`Estimator`] has the three.
//!
//! One fact is needed. For a fixed vector a with a part b of k entries, and a vector v of independent standard normal numbers as long as a,
//! with v' those of the part: E|(a.v) v'|^2 = k |a|^2 + 2 |b|^2. For (a.v)^2 and |v'|^2 have the means |a|^2 and k, and the covariance 2 |b|^2,
//! since of the k squares in |v'|^2 the i-th has the covariance 2 b_i^2 with (a.v)^2.
//!
//! * **Shared noise on weights**: (G.v) v', with G the batch's mean gradient of all and G' its part. Over noise, E|.|^2 = n |G|^2 + 2 |G'|^2; over
//!   batches E|G|^2 = V_all / N + S_all and E|G'|^2 = V / N + S. Less S, the square of the mean: `(n V_all + 2 V) / N + n S_all + S`.
//! * **Independent noise on weights**: the mean of N independent terms (g.v) v', each as above with a batch of one:
//!   `(n (V_all + S_all) + 2 V + S) / N`.
//! * **Noise on activities**: the mean of N independent terms x (d.u) u'^T. |x|^2 (q |d_all|^2 + 2 |d|^2) over noise, and |x|^2 |d|^2 = |g|^2, so with
//!   A = E[|x|^2 |d_all|^2]: `(q A + 2 V + S) / N`.
//!
//! With noise on the layer alone (V_all = V, S_all = S, A = V + S) these are the lines of Ren et al., "Scaling forward gradient with local losses"
//! (ICLR 2023), section 4: (n + 2) V / N + (n + 1) S, then (n + 2) V / N + (n + 1) S / N, then (q + 2) V / N + (q + 1) S / N. Divided by n, V, S
//! and the variance are means over entries, as they are there and in the figure.

/// A forward gradient, by where its noise is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Estimator {
    /// On weights, one draw for the whole batch.
    Shared,
    /// On weights, one draw for each example.
    Independent,
    /// On activities.
    Activities,
}

impl Estimator {
    pub const ALL: [Estimator; 3] = [Estimator::Shared, Estimator::Independent, Estimator::Activities];

    pub fn name(self) -> &'static str {
        match self {
            Estimator::Shared => "weights: shared noise",
            Estimator::Independent => "weights: independent noise",
            Estimator::Activities => "activities",
        }
    }
}

/// The gradient of one example.
#[derive(Clone, Debug)]
pub struct Example {
    /// Of the layer's weights, and of all weights with noise.
    pub layer: Vec<f64>,
    pub all: Vec<f64>,
    /// |x|^2 of the layer's input, and |d_all|^2 of all activities with noise.
    pub input: f64,
    pub activities: f64,
}

/// What the lines are made of, for examples that are drawn from a finite pool, each as likely as any other, with replacement.
#[derive(Clone, Debug)]
pub struct Moments {
    /// The exact gradient of the layer's weights.
    pub mean: Vec<f64>,
    outputs: f64,
    v: f64,
    s: f64,
    v_all: f64,
    s_all: f64,
    a: f64,
}

impl Moments {
    /// Of a layer with so many outputs.
    pub fn of(pool: &[Example], outputs: usize) -> Moments {
        let count = pool.len() as f64;
        let (mean, v, s) = spread(pool, |e| &e.layer);
        let (_, v_all, s_all) = spread(pool, |e| &e.all);
        let a = pool.iter().map(|e| e.input * e.activities).sum::<f64>() / count;
        Moments { mean, outputs: outputs as f64, v, s, v_all, s_all, a }
    }

    /// The variance of an estimate from a batch of so many examples: the mean over the layer's weights.
    pub fn variance(&self, estimator: Estimator, batch: usize) -> f64 {
        let (batch, n) = (batch as f64, self.mean.len() as f64);
        let total = match estimator {
            Estimator::Shared => (n * self.v_all + 2.0 * self.v) / batch + n * self.s_all + self.s,
            Estimator::Independent => (n * (self.v_all + self.s_all) + 2.0 * self.v + self.s) / batch,
            Estimator::Activities => (self.outputs * self.a + 2.0 * self.v + self.s) / batch,
        };
        total / n
    }

    /// The same if nothing but the layer had noise.
    pub fn alone(&self) -> Moments {
        Moments { v_all: self.v, s_all: self.s, a: self.v + self.s, ..self.clone() }
    }
}

/// The mean of vectors, how far they lie from it (squared, in the mean), and its square.
fn spread(pool: &[Example], part: fn(&Example) -> &Vec<f64>) -> (Vec<f64>, f64, f64) {
    let count = pool.len() as f64;
    let mut mean = vec![0.0; pool.first().map_or(0, |e| part(e).len())];
    for example in pool {
        mean.iter_mut().zip(part(example)).for_each(|(m, x)| *m += x / count);
    }
    let far = pool.iter().map(|e| distance(part(e), &mean)).sum::<f64>() / count;
    let square = mean.iter().map(|m| m * m).sum();
    (mean, far, square)
}

/// |a - b|^2
pub fn distance(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two examples of a layer with two inputs and one output: each line by hand, with noise on the layer alone and on one more weight.
    #[test]
    fn lines_by_hand() {
        let example = |layer: [f64; 2], other: f64| Example {
            layer: layer.to_vec(),
            all: vec![layer[0], layer[1], other],
            input: 2.0,
            activities: (layer[0] * layer[0] + layer[1] * layer[1]) / 2.0 + 1.0,
        };
        let moments = Moments::of(&[example([1.0, 0.0], 1.0), example([3.0, 2.0], 1.0)], 1);
        // m = (2, 1), S = 5, V = 2; of all S = 6, V = 2; A = (1 + 13) / 2 + 2 = 9.
        assert_eq!(moments.mean, [2.0, 1.0]);
        let at = |m: &Moments, batch| Estimator::ALL.map(|e| m.variance(e, batch));
        assert_eq!(at(&moments, 1), [(4.0 + 4.0 + 12.0 + 5.0) / 2.0, (16.0 + 4.0 + 5.0) / 2.0, (9.0 + 4.0 + 5.0) / 2.0]);
        assert_eq!(at(&moments, 4), [(8.0 / 4.0 + 12.0 + 5.0) / 2.0, 25.0 / 8.0, 18.0 / 8.0]);
        // (n + 2) V / N + (n + 1) S and so on.
        assert_eq!(at(&moments.alone(), 4), [(8.0 / 4.0 + 15.0) / 2.0, (8.0 + 15.0) / 8.0, (6.0 + 10.0) / 8.0]);
    }
}
