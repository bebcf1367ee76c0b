//! The crates import each other only as ARCHITECTURE.md draws it.

use std::path::Path;

const ARROWS: &[(&str, &[&str])] = &[
    ("custody", &[]),
    ("acquire", &["exhibit-custody"]),
    ("respond", &["exhibit-acquire", "exhibit-custody"]),
    ("timeline", &["exhibit-custody"]),
    ("cli", &["exhibit-acquire", "exhibit-custody", "exhibit-respond", "exhibit-timeline"]),
];

/// What only the command line may use, and what only the timeline may.
const KEPT_OUT: &[(&str, &[&str])] = &[
    ("custody", &["clap", "indicatif", "polars", "tokio", "reqwest", "hyper"]),
    ("acquire", &["clap", "indicatif", "polars"]),
    ("respond", &["clap", "indicatif", "polars"]),
    ("timeline", &["clap", "indicatif", "tokio", "reqwest", "hyper"]),
    ("cli", &["polars"]),
];

fn dependencies(folder: &str) -> Vec<String> {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder).join("Cargo.toml");
    let text = std::fs::read_to_string(&manifest).unwrap_or_else(|e| panic!("{}: {e}", manifest.display()));
    let (_, after) = text.split_once("\n[dependencies]\n").expect("every crate has dependencies");
    let section = after.split("\n[").next().unwrap_or_default();
    section.lines().filter_map(|line| line.split(['.', ' ', '=']).next()).map(str::to_owned).collect()
}

#[test]
fn crates_import_only_downwards() {
    for (folder, allowed) in ARROWS {
        for dependency in dependencies(folder).iter().filter(|name| name.starts_with("exhibit-")) {
            assert!(allowed.contains(&dependency.as_str()), "{folder} must not import {dependency}");
        }
    }
}

#[test]
fn heavy_or_forbidden_packages_stay_where_they_belong() {
    for (folder, forbidden) in KEPT_OUT {
        let all = dependencies(folder);
        for name in *forbidden {
            assert!(!all.iter().any(|dependency| dependency == name), "{folder} must not depend on {name}");
        }
    }
}
