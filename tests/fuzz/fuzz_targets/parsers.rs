//! Every parser on the same bytes: `cargo fuzz run --fuzz-dir tests/fuzz parsers`, and behind that a folder of
//! `samples/` to start from.
//!
//! What must hold: no panic, no hang, no error from bytes that can be read, and no span outside them.
#![no_main]

use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use timeline::event::{Span, YearBasis};
use timeline::parser::{Collected, Context, Input, Probe};
use timeline::year::YearPlan;

const PATH: &str =
    "/home/alice/containers/0000000000000000000000000000000000000000000000000000000000000000/x.log";

fuzz_target!(|bytes: &[u8]| {
    let source = Arc::new(bytes.to_vec());
    let head = bytes.get(..4096).unwrap_or(bytes);
    let probe = Probe { path: PATH, head, size: Some(bytes.len() as u64) };
    let year = YearPlan::Forward { first_year: 2026, basis: YearBasis::Flag };
    let context = Context { year, ..Context::default() };
    for parser in timeline::parsers::ALL {
        let claimed = parser.claims(&probe);
        if parser.is_yearless(&probe) {
            parser.scan_years(&mut Input::of_source(PATH, source.clone())).expect("the bytes can be read");
        }
        let mut found = Collected::default();
        parser
            .parse(&mut Input::of_source(PATH, source.clone()), &context, &mut found)
            .unwrap_or_else(|error| panic!("{} (claimed: {claimed}): {error}", parser.name()));
        let spans = found.events.iter().map(|event| event.span);
        let spans =
            spans.chain(found.rejects.iter().map(|(span, _)| *span)).chain(found.filler.iter().copied());
        for Span { offset, length } in spans {
            let end = offset.checked_add(length);
            assert!(end.is_some_and(|end| end <= bytes.len() as u64), "{}: {offset}+{length}", parser.name());
        }
    }
});
