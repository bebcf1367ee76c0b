# What CI runs, by name. `just ci` is what `.ci/run` runs.

# everything, as CI does it
ci: fmt-check lint test doc fuzz-build

# formats all code, also the parsers that cargo fmt cannot see (they are declared by a macro)
fmt:
    cargo fmt --all
    rustfmt --edition 2024 timeline/src/parsers/*.rs

fmt-check:
    cargo fmt --all --check
    rustfmt --edition 2024 --check timeline/src/parsers/*.rs

lint:
    cargo clippy --workspace --all-targets -- -D warnings

test:
    cargo test --workspace

doc:
    RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --document-private-items

# the fuzz target over all parsers must build; run it with `cargo fuzz run parsers`
fuzz-build:
    cargo build --manifest-path tests/fuzz/Cargo.toml

# shows changed snapshots one by one
review:
    cargo insta review

# licences, advisories, double versions
deny:
    cargo deny check
