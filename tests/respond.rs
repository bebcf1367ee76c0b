//! Tests of the respond crate.
