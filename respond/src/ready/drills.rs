//! Drills: what an incident would need, done once for real, on canaries.

mod capture;
mod isolation;
mod restore;

use super::check::{Check, Severity};
use super::settings::DrillKind;

pub(super) static CHECKS: &[Check] = &[
    Check {
        id: "RD39",
        version: 1,
        severity: Severity::Critical,
        title: "a capture works from end to end",
        scope: "canary",
        tested: "drill: a disk image and a folder of files with a planted secret are made; `exhibit` makes a case, acquires both with \
                 the settings' key and encryption, verifies the case, gives both out again, and the planted bytes must be in what \
                 came out, and the image's SHA-256 the same; likewise the canary of `ready.canary.ebs`; seconds are kept",
        remediation: "the failing step is named with the words of the program: run it by hand",
        prowler: &[],
        seconds: 3600,
        drill: Some(DrillKind::Capture),
        test: capture::drill,
    },
    Check {
        id: "RD40",
        version: 1,
        severity: Severity::High,
        title: "an isolation holds, leaves the channel, and is taken back without a trace",
        scope: "canary",
        tested: "drill: two network name spaces are joined; one is isolated by the same nftables ruleset as a host in an incident. \
                 Before, both ways work; during, the allowed channel must answer and an established connection must be cut, over IPv4 \
                 and IPv6; afterwards the ruleset must be that of before, byte for byte",
        remediation: "install nftables and iproute2, run as root; look at what the probe saw",
        prowler: &[],
        seconds: 180,
        drill: Some(DrillKind::Isolation),
        test: isolation::drill,
    },
    Check {
        id: "RD41",
        version: 1,
        severity: Severity::High,
        title: "old evidence is whole, can be opened, and its time stamps hold",
        scope: "case",
        tested: "drill: of the cases in the folder of cases that have evidence one is chosen at random; `exhibit verify` hashes every \
                 byte of it again, with `ready.identities` where it is encrypted; a time stamp of it, if there is any, is verified up to the roots \
                 of `ready.time_stamp`. What was a case and cannot be opened fails, whichever was chosen",
        remediation: "investigate at once: find which copy is whole, and restore from it",
        prowler: &[],
        seconds: 3600,
        drill: Some(DrillKind::Restore),
        test: restore::drill,
    },
];
