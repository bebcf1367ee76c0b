//! What shall go wrong, and when.

use std::time::Duration;

use super::Settings;

/// What is asked of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    ListBlocks,
    ListChanged,
    GetBlock,
    /// EC2, STS and the others, which are no concern of the direct APIs.
    Other,
}

impl Operation {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ListBlocks => "ListSnapshotBlocks",
            Self::ListChanged => "ListChangedBlocks",
            Self::GetBlock => "GetSnapshotBlock",
            Self::Other => "other",
        }
    }

    pub(crate) fn lists(self) -> bool {
        matches!(self, Self::ListBlocks | Self::ListChanged)
    }
}

/// One thing that goes wrong.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    /// An error in the service's own form: status, code, reason (may be empty).
    Error(u16, &'static str, &'static str),
    /// A checksum that is of other bytes.
    WrongChecksum,
    /// Bytes that are not those of the checksum.
    WrongBytes,
    /// No checksum at all.
    NoChecksum,
    /// A checksum by another algorithm.
    OtherAlgorithm,
    /// The body ends early, though its length says otherwise.
    Truncated,
    /// A body that is whole, but shorter than a block, with its right checksum.
    Short,
    /// More bytes than a block, with their right checksum.
    Longer,
    /// So many bytes at a time, with a pause between.
    Trickle { bytes: usize, every: Duration },
    /// No answer, ever.
    Hang,
    /// The connection is reset.
    Reset,
    /// 200 with something that is no JSON (of lists), or with text for a block's bytes.
    Garbage,
    /// A page without blocks and with a token to go on.
    EmptyPage,
    /// The same, with another token each time.
    EndlessPages,
    /// A page of so many blocks at most.
    ShortPage(usize),
    /// A page whose indexes go down.
    Descending,
    /// A page that names one block twice.
    Duplicate,
    /// A page with a block behind the volume's end.
    OutOfRange,
    /// A page with an index below zero.
    Negative,
    /// A page that begins again where the one before it began, for ever.
    Cycle,
    /// `VolumeSize` in bytes, as old examples of AWS have it.
    SizeInBytes,
    /// Another size of blocks.
    OtherBlockSize(u64),
    /// Somebody else begins a list at this moment; the request itself is answered.
    SecondLister,
    /// A block's token that is empty.
    NoToken,
}

impl Fault {
    /// The first word of it.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Error(_, code, "") => (*code).to_owned(),
            Self::Error(_, _, reason) => (*reason).to_owned(),
            other => {
                let text = format!("{other:?}");
                text.split([' ', '(']).next().unwrap_or_default().to_owned()
            }
        }
    }

    /// RequestThrottledException, with its reason.
    pub(crate) fn throttled(reason: &'static str) -> Self {
        Self::Error(400, "RequestThrottledException", reason)
    }

    /// All the ways in which EBS says "fewer, later".
    pub(crate) fn throttles() -> Vec<Self> {
        vec![
            Self::throttled("ACCOUNT_THROTTLED"),
            Self::throttled("RESOURCE_LEVEL_THROTTLE"),
            Self::throttled("DEPENDENCY_REQUEST_THROTTLED"),
            Self::Error(400, "ThrottlingException", ""),
            Self::Error(503, "ConcurrentLimitExceededException", ""),
            Self::Error(503, "SlowDown", ""),
        ]
    }
}

/// When a fault is shown.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    operation: Operation,
    index: Option<u32>,
    skip: u64,
    times: u64,
    fault: Fault,
}

impl Rule {
    /// Always, for an operation.
    pub(crate) fn on(operation: Operation, fault: Fault) -> Self {
        Self { operation, index: None, skip: 0, times: u64::MAX, fault }
    }

    /// Always, for a block that is asked for.
    pub(crate) fn block(index: u32, fault: Fault) -> Self {
        Self { index: Some(index), ..Self::on(Operation::GetBlock, fault) }
    }

    /// So many times only.
    pub(crate) fn times(self, times: u64) -> Self {
        Self { times, ..self }
    }

    /// Not for the first requests that it fits.
    pub(crate) fn after(self, skip: u64) -> Self {
        Self { skip, ..self }
    }
}

/// What a server does.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    pub(crate) settings: Settings,
    pub(crate) rules: Vec<Rule>,
}

impl From<Vec<Rule>> for Plan {
    fn from(rules: Vec<Rule>) -> Self {
        Self { rules, settings: Settings::default() }
    }
}

/// How far a plan has come.
pub(crate) struct Progress {
    rules: Vec<Rule>,
}

impl Progress {
    pub(crate) fn new(rules: Vec<Rule>) -> Self {
        Self { rules }
    }

    /// The fault of a request, if it has one: the first rule that fits and is not used up.
    pub(crate) fn next(&mut self, operation: Operation, index: Option<u32>) -> Option<Fault> {
        for rule in &mut self.rules {
            if rule.operation != operation || rule.times == 0 || rule.index.is_some() && rule.index != index {
                continue;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
                continue;
            }
            rule.times -= 1;
            return Some(rule.fault.clone());
        }
        None
    }
}
