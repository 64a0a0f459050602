use super::*;

const FILES: [(&str, &str); 8] = [
    ("lib.pf", include_str!("../../lib.pf")),
    ("localmixer.pf", include_str!("../../../models/localmixer.pf")),
    ("mlp.pf", include_str!("../../../models/mlp.pf")),
    ("residual_mlp.pf", include_str!("../../../models/residual_mlp.pf")),
    ("mixer.pf", include_str!("../../../models/mixer.pf")),
    ("convnet.pf", include_str!("../../../models/convnet.pf")),
    ("attention.pf", include_str!("../../../models/attention.pf")),
    ("tanh_mlp.pf", include_str!("../../../models/tanh_mlp.pf")),
];

#[test]
fn the_files_of_the_project_parse() {
    for (name, text) in FILES {
        assert!(parse(text, 0).is_ok(), "{name}: {:#?}", parse(text, 0));
    }
}
