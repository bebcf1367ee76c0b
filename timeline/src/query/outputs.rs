//! The formats of answers.
