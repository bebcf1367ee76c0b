//! Isolation: recorded, applied, verified, taken back. One file a platform.
