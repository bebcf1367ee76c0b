//! `exhibit isolate`: by hand what the steps of a rule do, with the state before it in the case's log.

use std::cell::Cell;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use custody::clock::{Clock as _, rfc3339};
use custody::{Case, Writer};
use respond::isolate::allowed::{Allowed, Way, resolve};
use respond::isolate::case_log::{self, Logged, Stage};
use respond::isolate::host_nft::{self, HostNft, Wanted};
use respond::isolate::{Isolated, Isolation, Restored, host_lease, isolate, take_back};
use respond::steps::Failed;
use serde_json::{Value, json};

use crate::amounts;
use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::target;

mod ssh_session;

/// The word of the step that isolates this host.
const HOST: &str = "isolate.host";

/// Cut this host off the network, and let it back
///
/// The state before is in the case's log before anything is touched, and is what `undo` puts back. A lease ends the isolation
/// by itself, whatever becomes of this program.
///
/// Example: exhibit isolate host --case ir-17 --allow 192.0.2.10:443 --allow-from 192.0.2.5:22 --lease 8h
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    act: Act,
}

#[derive(Debug, clap::Subcommand)]
enum Act {
    Host(HostArgs),
    Undo(UndoArgs),
    Extend(ExtendArgs),
    Status(StatusArgs),
    #[command(hide = true)]
    Expire(ExpireArgs),
}

/// Cut this Linux host off by nftables, all but what is allowed
///
/// One table of its own is loaded in one transaction, for IPv4 and IPv6; no rule that is there is touched. Open connections
/// end too, unless they are allowed. DHCP and neighbour discovery go on; DNS does not, so names are resolved before. Then it
/// is tried: when an allowed address that answered before no longer does, all is taken back at once.
///
/// Example: exhibit isolate host --case ir-17 --allow 192.0.2.10:443 --allow-from 192.0.2.5:22 --lease 8h
#[derive(Debug, clap::Args)]
struct HostArgs {
    /// The case whose log it stands in
    #[arg(long)]
    case: PathBuf,
    /// Where this host may still connect to; without a port, anything with that address. May be given again
    #[arg(long, value_name = "ADDR[:PORT]")]
    allow: Vec<String>,
    /// Who may still connect to a port of this host; may be given again
    #[arg(long, value_name = "ADDR:PORT")]
    allow_from: Vec<String>,
    /// What must not be reached any more, to try it; may be given again
    #[arg(long, value_name = "ADDR:PORT")]
    probe: Vec<String>,
    /// When it ends by itself: 90s, 20min, 8h
    #[arg(long, value_name = "TIME", value_parser = amounts::span, required_unless_present = "for_good")]
    lease: Option<Duration>,
    /// It never ends by itself
    #[arg(long, conflicts_with = "lease")]
    for_good: bool,
    /// Also where the SSH session that this is typed in is cut off
    #[arg(long)]
    even_me: bool,
    /// Go on with one that was interrupted
    #[arg(long, value_name = "ID")]
    id: Option<String>,
}

/// Let it back: put the state back that was recorded
///
/// What others changed meanwhile is told and left as it is.
///
/// Example: exhibit isolate undo --case ir-17 i001-5f3a92c1
#[derive(Debug, clap::Args)]
struct UndoArgs {
    /// The case whose log it stands in
    #[arg(long)]
    case: PathBuf,
    /// Which isolation, as `status` names it
    id: String,
}

/// Set anew when an isolation ends by itself, from now on
///
/// Example: exhibit isolate extend --case ir-17 i001-5f3a92c1 --lease 8h
#[derive(Debug, clap::Args)]
struct ExtendArgs {
    /// The case whose log it stands in
    #[arg(long)]
    case: PathBuf,
    /// Which isolation, as `status` names it
    id: String,
    /// When it ends by itself, from now: 90s, 20min, 8h
    #[arg(long, value_name = "TIME", value_parser = amounts::span)]
    lease: Duration,
}

/// List the isolations of a case, and what this host is under now
///
/// Example: exhibit isolate status --case ir-17
#[derive(Debug, clap::Args)]
struct StatusArgs {
    /// The case whose log is read
    #[arg(long)]
    case: Option<PathBuf>,
}

/// Takes the table of an isolation away once its lease is over.
#[derive(Debug, clap::Args)]
struct ExpireArgs {
    /// The kernel's number of the table
    #[arg(long)]
    table_handle: u64,
    /// Wait here; else a process that stays is started
    #[arg(long)]
    stay: bool,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<Outcome, Failure> {
    match &args.act {
        Act::Host(args) => host(args, session),
        Act::Undo(args) => undo(args, session),
        Act::Extend(args) => extend(args, session),
        Act::Status(args) => status(args, session),
        Act::Expire(args) => expire(args),
    }
}

fn host(args: &HostArgs, session: &Session) -> Result<Outcome, Failure> {
    let case = target::open_case(&args.case)?;
    let key = session.key()?;
    let writer = session.writer(&*key, Some(&case));
    if !args.even_me {
        keep_me(args)?;
    }
    let before = match &args.id {
        Some(id) => Some(of_case(&case, id)?),
        None => None,
    };
    if let Some(before) =
        before.as_ref().filter(|before| before.stage == Stage::Undone || before.kind != HOST)
    {
        return Err(Failure::usage(format!("{} is {}", before.id, before.stage.word())));
    }
    let id = before.as_ref().map_or_else(|| new_id(&case), |before| Ok(before.id.clone()))?;
    let wanted = Wanted {
        allow: args.allow.clone(),
        allow_from: args.allow_from.clone(),
        probes: args.probe.clone(),
        lease: args.lease.map_or(0, |lease| lease.as_secs()),
    };
    if args.lease.is_some_and(|lease| lease.as_secs() == 0) {
        return Err(Failure::usage("a lease of no time is none"));
    }
    let isolation = HostNft::new(&id, wanted, &session.clock, Some(std::env::current_exe()?));
    let intent = Cell::new(before.as_ref().map(|before| before.seq));
    let intend = |intended: &Value| {
        let recorded = intended.get("recorded").unwrap_or(&Value::Null);
        for warning in warnings(recorded) {
            session.ui.warn(&warning);
        }
        let wrong = |what: String| respond::Error::Settings { path: args.case.clone(), what };
        let entry = case_log::intended(&id, HOST, &isolation.subject(), recorded)
            .map_err(|failed| wrong(failed.to_string()))?;
        intent.set(Some(case.append(entry, &writer)?.seq));
        Ok(())
    };
    match isolate(&isolation, before.as_ref().map(|before| &before.recorded), &intend) {
        Ok(isolated) => {
            let entry = case_log::done(&id, HOST, &isolated, intent.get().unwrap_or_default());
            case.append(entry, &writer).map_err(|error| {
                Failure::from(error)
                    .hint(format!(
                        "this host is isolated, by {id}, though the log of the case does not say so"
                    ))
                    .hint(undo_of(&case, &id))
            })?;
            told(&id, &isolated, session)
        }
        Err(failed) => Err(given_up(failed, &id, &isolation, &case, &writer)),
    }
}

/// A command that fails leaves nothing behind: whatever was done is taken back, and that is in the log.
fn given_up(
    failed: Failed,
    id: &str,
    isolation: &dyn Isolation,
    case: &Case,
    writer: &Writer<'_>,
) -> Failure {
    let failure = Failure::new(failed.to_string());
    let Ok(logged) = of_case(case, id) else { return failure };
    match isolation.rollback(&logged.recorded) {
        Ok(restored) => {
            let entry = case_log::undone(id, HOST, &logged.subject, &restored, logged.seq)
                .error("failed", failed.to_string());
            match case.append(entry, writer) {
                Ok(_) => failure.hint("nothing of it is left"),
                Err(error) => {
                    failure.hint(format!("nothing of it is left, but that could not be logged: {error}"))
                }
            }
        }
        Err(again) => {
            failure.hint(format!("and it could not be taken back: {again}")).hint(undo_of(case, id))
        }
    }
}

fn undo_of(case: &Case, id: &str) -> String {
    format!("exhibit isolate undo --case {} {id}", case.folder().display())
}

fn told(id: &str, isolated: &Isolated, session: &Session) -> Result<Outcome, Failure> {
    let until = isolated.recorded.get("until").and_then(Value::as_str).unwrap_or_default();
    if session.ui.is_json() {
        session.ui.document(&json!({
            "id": id, "subject": isolated.subject, "proved": isolated.is_proved, "until": until,
            "verified": serde_json::to_value(&isolated.verified)?, "warnings": warnings(&isolated.recorded),
        }))?;
    } else {
        let ends = if until.is_empty() { "until it is undone".to_owned() } else { format!("until {until}") };
        session.ui.say(&format!("{} is isolated {ends}", isolated.subject));
        let verified = &isolated.verified;
        for probe in verified.allowed.iter().chain(&verified.forbidden) {
            session.ui.say(&format!("tried: {}: {}", probe.what, probe.seen));
        }
        for read in &verified.read_back {
            session.ui.say(&format!("read back: {read}"));
        }
        for what in &verified.not_tried {
            session.ui.say(&format!("not tried: {what}"));
        }
        session.ui.data(id)?;
    }
    if !isolated.is_proved {
        session.ui.warn("that it holds is not proved: see what was tried");
    }
    Ok(if isolated.is_proved { Outcome::Done } else { Outcome::WithIssues })
}

fn warnings(recorded: &Value) -> Vec<String> {
    let all = recorded.get("warnings").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    all.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

/// Refuses what would cut off the SSH session that the command is typed in.
fn keep_me(args: &HostArgs) -> Result<(), Failure> {
    let Some(connection) = ssh_session::connection() else { return Ok(()) };
    let Some((peer, port)) = ssh_session::ends(&connection) else {
        let what = format!(
            "this is typed in an SSH session whose ends are not understood ({connection:?}), and might be cut off"
        );
        return Err(Failure::usage(what).hint("say --even-me if it may be"));
    };
    let mut allowed = Vec::new();
    for text in &args.allow {
        allowed.extend(Allowed::read_to(text, &resolve).map_err(Failure::usage)?);
    }
    for text in &args.allow_from {
        allowed.extend(Allowed::read_from(text, &resolve).map_err(Failure::usage)?);
    }
    let keeps = |allowed: &Allowed| {
        allowed.net.contains(&peer) && matches!(allowed.way, Way::Both | Way::From(_)) && {
            !matches!(allowed.way, Way::From(other) if other != port)
        }
    };
    if allowed.iter().any(keeps) {
        return Ok(());
    }
    Err(Failure::usage(format!("this would cut off the SSH session from {peer} that it is typed in")).hint(
        format!(
            "add --allow-from {}:{port}, or say --even-me",
            if peer.is_ipv6() { format!("[{peer}]") } else { peer.to_string() }
        ),
    ))
}

/// A name that no other isolation has, on this host either.
fn new_id(case: &Case) -> Result<String, Failure> {
    let number = case_log::all(&case.log().read()?.entries).len().saturating_add(1);
    let of_case: String = case.file().id.chars().rev().filter(|c| *c != '-').take(8).collect();
    Ok(format!("i{number:03}-{of_case}"))
}

fn of_case(case: &Case, id: &str) -> Result<Logged, Failure> {
    let all = case_log::all(&case.log().read()?.entries);
    let known: Vec<String> = all.iter().map(|isolation| isolation.id.clone()).collect();
    all.into_iter().find(|isolation| isolation.id == id).ok_or_else(|| {
        let there =
            if known.is_empty() { "it has none".to_owned() } else { format!("it has {}", known.join(", ")) };
        Failure::usage(format!("the case has no isolation {id:?}: {there}"))
    })
}

/// The platform of an isolation, as its entry names it.
fn platform<'a>(logged: &Logged, session: &'a Session) -> Result<Box<dyn Isolation + 'a>, Failure> {
    match logged.kind.as_str() {
        HOST => Ok(Box::new(HostNft::new(
            &logged.id,
            Wanted::default(),
            &session.clock,
            Some(std::env::current_exe()?),
        ))),
        other => {
            Err(Failure::usage(format!("{} is of kind {other:?}, which is not undone by hand", logged.id))
                .hint("the service that did it undoes it: exhibit jobs show JOB"))
        }
    }
}

fn undo(args: &UndoArgs, session: &Session) -> Result<Outcome, Failure> {
    let case = target::open_case(&args.case)?;
    let key = session.key()?;
    let writer = session.writer(&*key, Some(&case));
    let logged = of_case(&case, &args.id)?;
    if logged.stage == Stage::Undone {
        session.ui.say(&format!("{} was undone already", logged.id));
        return Ok(Outcome::Done);
    }
    let isolation = platform(&logged, session)?;
    let restored = take_back(&*isolation, &json!({ "recorded": logged.recorded }))
        .map_err(|failed| Failure::new(failed.to_string()))?;
    let entry = case_log::undone(&logged.id, &logged.kind, &logged.subject, &restored, logged.seq);
    case.append(entry, &writer)?;
    let Restored { differences, notes } = &restored;
    if session.ui.is_json() {
        session.ui.document(&json!({
            "id": logged.id, "exactly_as_before": restored.is_exact(), "differences": differences, "notes": notes,
        }))?;
    } else {
        for note in notes {
            session.ui.say(note);
        }
        for difference in differences {
            session.ui.warn(difference);
        }
        let how =
            if restored.is_exact() { "exactly as before" } else { "let back, but not as before: see above" };
        session.ui.say(&format!("{} is {how}", logged.subject));
    }
    Ok(if restored.is_exact() { Outcome::Done } else { Outcome::WithIssues })
}

fn extend(args: &ExtendArgs, session: &Session) -> Result<Outcome, Failure> {
    let case = target::open_case(&args.case)?;
    let key = session.key()?;
    let writer = session.writer(&*key, Some(&case));
    let logged = of_case(&case, &args.id)?;
    if !logged.job.is_empty() {
        return Err(Failure::usage(format!(
            "{} is of the job {}, whose service takes it back at its time",
            logged.id, logged.job
        ))
        .hint("the lease of its step says when; undo it by hand with `exhibit isolate undo`"));
    }
    if logged.stage == Stage::Undone {
        return Err(Failure::usage(format!("{} is undone", logged.id)));
    }
    let lasts = i64::try_from(args.lease.as_nanos()).unwrap_or(i64::MAX);
    let until = session.clock.now().wall_ns.saturating_add(lasts);
    let isolation = platform(&logged, session)?;
    // Before it is done: a lease must not last longer than the log says.
    let text = rfc3339(until);
    case.append(case_log::extended(&logged, &text), &writer)?;
    let keeps = isolation.lease_until(&logged.recorded, Some(until)).map_err(|failed| {
        let failure = Failure::new(failed.to_string());
        let entry = case_log::extended(&logged, &logged.until).error("failed", failed.to_string());
        match case.append(entry, &writer) {
            Ok(_) => failure,
            Err(error) => failure.hint(format!(
                "it was not extended, though the log says so: that could not be logged: {error}"
            )),
        }
    })?;
    let until = text;
    if session.ui.is_json() {
        session.ui.document(&json!({ "id": logged.id, "until": until, "ends_by_itself": keeps }))?;
    } else {
        session.ui.say(&format!("{} stays isolated until {until}", logged.subject));
    }
    Ok(Outcome::Done)
}

fn status(args: &StatusArgs, session: &Session) -> Result<Outcome, Failure> {
    let now = host_nft::now();
    let logged = match &args.case {
        Some(case) => case_log::all(&target::open_case(case)?.log().read()?.entries),
        None => Vec::new(),
    };
    if session.ui.is_json() {
        let here = match &now {
            Ok(now) => now
                .as_ref()
                .map_or(Value::Null, |now| json!({ "id": now.mark, "lease_left": now.lease_left })),
            Err(failed) => json!({ "unknown": failed.to_string() }),
        };
        let rows: Vec<Value> = logged
            .iter()
            .map(|one| {
                json!({
                    "id": one.id, "kind": one.kind, "subject": one.subject, "state": one.stage.word(), "until": one.until,
                    "entry": one.seq,
                })
            })
            .collect();
        session.ui.document(&json!({ "this_host": here, "isolations": rows }))?;
        return Ok(Outcome::Done);
    }
    let words = match now {
        Ok(None) => "this host is not isolated".to_owned(),
        Ok(Some(now)) => match now.lease_left {
            None => format!("this host is isolated by {}, until it is undone", now.mark),
            Some(0) => format!("the lease of {} is over: everything is let through", now.mark),
            Some(left) => format!("this host is isolated by {}, for {left} s more", now.mark),
        },
        Err(failed) => format!("whether this host is isolated is not known: {failed}"),
    };
    session.ui.say(&words);
    if args.case.is_some() {
        let rows = logged.into_iter().map(|one| {
            vec![one.id, one.kind, one.subject, one.stage.word().to_owned(), one.until, one.seq.to_string()]
        });
        session.ui.table(&["id", "kind", "subject", "state", "until", "entry"], rows.collect())?;
    }
    Ok(Outcome::Done)
}

fn expire(args: &ExpireArgs) -> Result<Outcome, Failure> {
    if args.stay {
        // Out of the session and process group of who started us, so that their end is not ours.
        let _ = rustix::process::setsid();
        host_lease::expire(args.table_handle).map_err(|failed| Failure::new(failed.to_string()))?;
        return Ok(Outcome::Done);
    }
    Command::new(std::env::current_exe()?)
        .args(["isolate", "expire", "--stay", "--table-handle", &args.table_handle.to_string()])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    Ok(Outcome::Done)
}
