//! flops (draft)
use pushforward_ir::{DType, Program};
use pushforward_passes::alone::Mode;
use pushforward_passes::{cost, Algorithm, Options};

use crate::fusion::*;
use crate::support::passed;

fn largest(p: &Program) -> usize {
    let live = p.live();
    p.values().filter(|v| live[v.0 as usize] && !matches!(p.op(*v).class(), pushforward_ir::op::Class::Leaf)).map(|v| p.axes.count(p.axes_of(v))).max().unwrap_or(0)
}

#[test]
fn draft() {
    let options = Options::new(Algorithm::LgBp);
    let show = |what: &str, p: &Program| {
        let t = std::time::Instant::now();
        let (q, r) = pushforward_passes::simplify::run_reported(p, &options);
        let q = passed(q, &["dce"], &options);
        let f = cost::flops(&q);
        println!("{what}: {:?} total {:.2} M largest {} nodes {} it {} {:?} {:?}", f, f.total() as f64 / 1e6, largest(&q), r.largest, r.iterations, r.notes, t.elapsed());
        if std::env::var("SHOW").is_ok_and(|s| what.contains(&s)) { println!("{}", q.to_text()); }
    };
    for mode in Mode::ALL {
        for g in ["1", "4", "16", "64", "256"] {
            show(&format!("xent {} g{g}", mode.name()), &derived(CROSS_ENTROPY, &[("groups", g)], 128, DType::F32, mode));
        }
        show(&format!("infonce dot {}", mode.name()), &derived(INFONCE, &[("similarity", "dot")], 128, DType::F32, mode));
        show(&format!("infonce cos {}", mode.name()), &derived(INFONCE, &[("similarity", "cos")], 128, DType::F32, mode));
        show(&format!("infonce views {}", mode.name()), &derived(INFONCE_VIEWS, &[], 128, DType::F32, mode));
        for s in SPELLED {
            show(&format!("{} {:?} {}", s.file, s.sets, mode.name()), &derived(s.text, s.sets, 128, DType::F32, mode));
        }
        for (n, t) in WORST {
            show(&format!("{n} {}", mode.name()), &derived(t, &[], 128, DType::F32, mode));
        }
    }
}
