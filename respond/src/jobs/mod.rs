//! Jobs: one plan for one asset, run exactly once.
