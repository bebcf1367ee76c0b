//! What a request is answered with.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use custody::sha256;

use super::listing::{Asked, Token, number_of};
use super::snapshot::{BLOCK, Snapshot};
use super::wire::Request;
use super::{Fault, Operation, Shared};

/// An answer, and how it is sent.
pub(crate) struct Answer<'a> {
    pub(crate) head: String,
    body: Cow<'a, [u8]>,
    pub(crate) manner: Manner,
}

/// How an answer is sent.
pub(crate) enum Manner {
    Whole,
    CutTo(usize),
    Trickle { bytes: usize, every: Duration },
    Never,
    Reset,
}

impl Answer<'_> {
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }
}

/// An error in the form of the direct APIs.
struct Refusal<'a> {
    status: u16,
    code: &'a str,
    reason: &'a str,
    message: String,
}

fn refusal<'a>(status: u16, code: &'a str, reason: &'a str, message: impl Into<String>) -> Refusal<'a> {
    Refusal { status, code, reason, message: message.into() }
}

impl Refusal<'_> {
    fn answer<'a>(&self) -> Answer<'a> {
        let reason = match self.reason {
            "" => String::new(),
            reason => format!(",\"Reason\":\"{reason}\""),
        };
        let body = format!("{{\"Message\":\"{}\"{reason}}}", self.message);
        let kind = format!("x-amzn-ErrorType: {}:http://internal.amazon.com/coral/\r\n", self.code);
        plain(self.status, "application/json", &kind, body.into_bytes())
    }
}

fn plain<'a>(status: u16, kind: &str, headers: &str, body: Vec<u8>) -> Answer<'a> {
    let head = format!(
        "HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nx-amzn-RequestId: 2af8f013-250a-4f6e-88ae-6dd7f6e12807\r\n\
         {headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    Answer { head, body: Cow::Owned(body), manner: Manner::Whole }
}

pub(crate) fn answer<'a>(request: &Request, shared: &'a Shared, at_once: u64) -> Answer<'a> {
    let parts: Vec<&str> = request.path.trim_matches('/').split('/').collect();
    let (operation, snapshot, index) = match parts[..] {
        ["snapshots", id, "blocks"] if request.method == "GET" => (Operation::ListBlocks, id, None),
        ["snapshots", id, "changedblocks"] if request.method == "GET" => (Operation::ListChanged, id, None),
        ["snapshots", id, "blocks", index] if request.method == "GET" => {
            (Operation::GetBlock, id, index.parse::<u32>().ok())
        }
        _ => (Operation::Other, "", None),
    };
    {
        let name = match operation {
            Operation::Other => request.form.get("Action").map_or("other", String::as_str),
            operation => operation.name(),
        };
        let mut counts = shared.counts.lock().unwrap();
        *counts.asked.entry(name.to_owned()).or_default() += 1;
        counts.most_at_once = counts.most_at_once.max(at_once);
        if let Some(index) = index.filter(|_| shared.has_rules) {
            *counts.of_blocks.entry(index).or_default() += 1;
        }
    }
    if operation == Operation::GetBlock {
        shared.gets.fetch_add(1, Ordering::Relaxed);
        if !shared.pace.allows_one() {
            return refusal(400, "RequestThrottledException", "RESOURCE_LEVEL_THROTTLE", "Too many requests")
                .answer();
        }
    }
    let fault = if shared.has_rules { shared.plan.lock().unwrap().next(operation, index) } else { None };
    if let Some(fault) = &fault {
        *shared.counts.lock().unwrap().faults.entry(fault.name()).or_default() += 1;
    }
    match fault {
        Some(Fault::Error(status, code, reason)) => {
            return refusal(status, code, reason, format!("{code} as planned")).answer();
        }
        Some(Fault::Hang) => return Answer { manner: Manner::Never, ..plain(200, "text/plain", "", vec![]) },
        Some(Fault::Reset) => {
            return Answer { manner: Manner::Reset, ..plain(200, "text/plain", "", vec![]) };
        }
        Some(Fault::Garbage) if operation.lists() => {
            return plain(200, "application/json", "", b"<html>not what you think</html>".to_vec());
        }
        Some(Fault::SecondLister) => {
            shared.generation.fetch_add(1, Ordering::Relaxed);
        }
        _ => {}
    }
    let answered = match operation {
        Operation::Other => return other(request, shared),
        Operation::GetBlock => block(request, shared, snapshot, index, fault.as_ref()),
        _ => list(request, shared, snapshot, operation, fault.as_ref()),
    };
    answered.unwrap_or_else(|refusal| refusal.answer())
}

fn find<'a>(shared: &'a Shared, id: &str) -> Result<&'a Snapshot, Refusal<'static>> {
    shared.snapshots.get(id).ok_or_else(|| {
        let message = format!("The snapshot '{id}' does not exist.");
        refusal(404, "ResourceNotFoundException", "SNAPSHOT_NOT_FOUND", message)
    })
}

fn invalid(reason: &'static str, message: &str) -> Refusal<'static> {
    refusal(400, "ValidationException", reason, message)
}

fn list<'a>(
    request: &Request,
    shared: &'a Shared,
    id: &str,
    operation: Operation,
    fault: Option<&Fault>,
) -> Result<Answer<'a>, Refusal<'static>> {
    let snapshot = find(shared, id)?;
    let first = match request.query("firstSnapshotId") {
        Some(first) if operation == Operation::ListChanged => Some(find(shared, first)?),
        _ => None,
    };
    if first.is_some_and(|first| first.volume != snapshot.volume) {
        return Err(invalid("UNRELATED_SNAPSHOTS", "The specified snapshots are not of the same lineage."));
    }
    let number = |name: &str, default: u64| {
        let value = request.query(name).map_or(Ok(default), str::parse::<u64>);
        value.map_err(|_| invalid("INVALID_PARAMETER_VALUE", "not a number"))
    };
    let most = number("maxResults", 10_000)?;
    if !(100..=10_000).contains(&most) {
        return Err(invalid("INVALID_PARAMETER_VALUE", "maxResults must be between 100 and 10000"));
    }
    let newest_only = shared.settings.newest_list_only;
    let (from, generation) = match request.query("pageToken") {
        Some(token) => {
            let newest = shared.generation.load(Ordering::Relaxed);
            let token = Token::read(token)
                .filter(|token| token.is_page && token.snapshot == number_of(id))
                .filter(|token| !newest_only || token.generation == newest)
                .ok_or_else(|| invalid("INVALID_PAGE_TOKEN", "Invalid page token"))?;
            (token.index, token.generation)
        }
        None => {
            let from = number("startingBlockIndex", 0)?;
            let from = u32::try_from(from).map_err(|_| invalid("INVALID_BLOCK", "no such block"))?;
            (from, shared.generation.fetch_add(1, Ordering::Relaxed) + 1)
        }
    };
    let most = shared.settings.page.min(most as usize);
    let gets = shared.gets.load(Ordering::Relaxed);
    let asked = Asked { snapshot, first, from, most, generation, gets };
    Ok(plain(200, "application/json", "", asked.page(&shared.settings, fault).into_bytes()))
}

fn block<'a>(
    request: &Request,
    shared: &'a Shared,
    id: &str,
    index: Option<u32>,
    fault: Option<&Fault>,
) -> Result<Answer<'a>, Refusal<'static>> {
    let snapshot = find(shared, id)?;
    let index = index.ok_or_else(|| invalid("INVALID_BLOCK", "no such block"))?;
    let settings = &shared.settings;
    let newest = shared.generation.load(Ordering::Relaxed);
    let gets = shared.gets.load(Ordering::Relaxed);
    request
        .query("blockToken")
        .and_then(Token::read)
        .filter(|token| !token.is_page && token.index == index && token.snapshot == number_of(id))
        .filter(|token| !settings.newest_list_only || token.generation == newest)
        .filter(|token| {
            settings.block_token_gets == 0 || gets.saturating_sub(token.gets) <= settings.block_token_gets
        })
        .ok_or_else(|| invalid("INVALID_BLOCK_TOKEN", "Invalid block token"))?;
    let (bytes, checksum) = snapshot.block(index).ok_or_else(|| invalid("INVALID_BLOCK", "no such block"))?;
    let mut body = Cow::Borrowed(bytes);
    let mut checksum = Some(Cow::Borrowed(checksum));
    let (mut length, mut algorithm, mut manner) = (None, "SHA256", Manner::Whole);
    let sum = |bytes: &[u8]| Some(Cow::Owned(STANDARD.encode(sha256(bytes).0)));
    match fault {
        Some(Fault::WrongChecksum) => checksum = sum(b"something else"),
        Some(Fault::WrongBytes) => body.to_mut()[12_345] ^= 0x10,
        Some(Fault::Garbage) => body = Cow::Borrowed(b"<html>not what you think</html>"),
        Some(Fault::NoChecksum) => checksum = None,
        Some(Fault::OtherAlgorithm) => algorithm = "MD5",
        Some(Fault::Truncated) => manner = Manner::CutTo(BLOCK / 3),
        Some(Fault::Short) => {
            body.to_mut().truncate(BLOCK / 2);
            checksum = sum(&body);
        }
        Some(Fault::Longer) => {
            body.to_mut().extend_from_slice(&[0x5a; 4096]);
            checksum = sum(&body);
            length = Some(BLOCK);
        }
        Some(&Fault::Trickle { bytes, every }) => manner = Manner::Trickle { bytes, every },
        None | Some(Fault::SecondLister) => {
            shared.blocks.fetch_add(1, Ordering::Relaxed);
        }
        Some(_) => {}
    }
    let mut head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\n\
         x-amz-Data-Length: {}\r\nx-amz-Checksum-Algorithm: {algorithm}\r\n",
        body.len(),
        length.unwrap_or(body.len())
    );
    if let Some(checksum) = checksum {
        let _ = write!(head, "x-amz-Checksum: {checksum}\r\n");
    }
    head.push_str("\r\n");
    Ok(Answer { head, body, manner })
}

/// What an acquisition asks of other services beside the direct APIs: as much of EC2 and STS as makes, tells and deletes a
/// snapshot. One that is made is that of its volume which the server was given.
fn other<'a>(request: &Request, shared: &'a Shared) -> Answer<'a> {
    // Where nothing is bounded, the account's quota is no bound either: only then is a peer that knows of none compared alike.
    let target = request.headers.get("x-amz-target").map_or("", String::as_str);
    if target.ends_with(".GetServiceQuota") && shared.pace.is_unbounded() {
        return plain(200, "application/x-amz-json-1.1", "", br#"{"Quota":{"Value":1000000.0}}"#.to_vec());
    }
    let xml = |name: &str, version: &str, inner: String| {
        let body = format!("<{name} xmlns=\"{version}\">{inner}</{name}>");
        plain(200, "text/xml;charset=UTF-8", "", body.into_bytes())
    };
    let ec2 = |name: &str, inner: String| {
        xml(&format!("{name}Response"), "http://ec2.amazonaws.com/doc/2016-11-15/", inner)
    };
    let no_such = |id: &str| {
        let body = format!(
            "<Response><Errors><Error><Code>InvalidSnapshot.NotFound</Code><Message>The snapshot '{id}' \
             does not exist.</Message></Error></Errors><RequestID>1</RequestID></Response>"
        );
        plain(400, "text/xml;charset=UTF-8", "", body.into_bytes())
    };
    let asked = |name: &str| request.form.get(name).map_or("", String::as_str);
    let fields = |snapshot: &Snapshot| {
        let made = shared.made.lock().unwrap();
        let tags = made.get(&snapshot.id).into_iter().flatten();
        let tags: String =
            tags.map(|(key, value)| format!("<item><key>{key}</key><value>{value}</value></item>")).collect();
        format!(
            "<snapshotId>{}</snapshotId><volumeId>{}</volumeId>\
             <status>completed</status><startTime>2026-11-20T08:00:00.000Z</startTime><progress>100%</progress>\
             <ownerId>123456789012</ownerId><volumeSize>{}</volumeSize><description/><encrypted>false</encrypted>\
             <storageTier>standard</storageTier><tagSet>{tags}</tagSet>",
            snapshot.id, snapshot.volume, snapshot.gib
        )
    };
    let is_there = |id: &str| !shared.deleted.lock().unwrap().contains(id);
    match request.form.get("Action").map(String::as_str) {
        Some("DescribeSnapshots") => {
            let id = asked("SnapshotId.1");
            let all = shared.snapshots.values().filter(|snapshot| is_there(&snapshot.id));
            let found: Vec<_> = all.filter(|snapshot| id.is_empty() || snapshot.id == id).collect();
            if found.is_empty() && !id.is_empty() {
                return no_such(id);
            }
            let items: String =
                found.into_iter().map(|snapshot| format!("<item>{}</item>", fields(snapshot))).collect();
            ec2("DescribeSnapshots", format!("<requestId>1</requestId><snapshotSet>{items}</snapshotSet>"))
        }
        Some("DescribeVolumes") => {
            let id = asked("VolumeId.1");
            let of_it = shared.snapshots.values().find(|snapshot| snapshot.volume == id);
            let item = of_it.map_or(String::new(), |snapshot| {
                format!("<item><volumeId>{id}</volumeId><size>{}</size></item>", snapshot.gib)
            });
            ec2("DescribeVolumes", format!("<volumeSet>{item}</volumeSet>"))
        }
        Some("CreateSnapshot") => {
            let Some(made) = shared.snapshots.values().find(|made| made.volume == asked("VolumeId")) else {
                return no_such("");
            };
            let tag = |number: usize, part: &str| {
                request.form.get(&format!("TagSpecification.1.Tag.{number}.{part}")).cloned()
            };
            let tags = (1..).map_while(|number| Some((tag(number, "Key")?, tag(number, "Value")?))).collect();
            shared.made.lock().unwrap().insert(made.id.clone(), tags);
            ec2("CreateSnapshot", fields(made))
        }
        Some("DescribeLockedSnapshots") => ec2("DescribeLockedSnapshots", "<snapshotSet/>".to_owned()),
        Some("DeleteSnapshot") => {
            let id = asked("SnapshotId");
            if !shared.snapshots.contains_key(id) || !is_there(id) {
                return no_such(id);
            }
            shared.deleted.lock().unwrap().insert(id.to_owned());
            ec2("DeleteSnapshot", "<return>true</return>".to_owned())
        }
        Some("GetCallerIdentity") => {
            let identity = "<GetCallerIdentityResult><Arn>arn:aws:iam::123456789012:user/examiner</Arn>\
                            <UserId>AIDASAMPLE</UserId><Account>123456789012</Account></GetCallerIdentityResult>";
            xml("GetCallerIdentityResponse", "https://sts.amazonaws.com/doc/2011-06-15/", identity.to_owned())
        }
        _ => refusal(400, "UnknownOperationException", "", "this server speaks the EBS direct APIs").answer(),
    }
}
