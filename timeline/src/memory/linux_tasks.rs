//! Processes: the list of tasks that begins at the first one.
//!
//! - Times: start, in nanoseconds after boot (suspended time counted), made UTC by the kernel's clock.
//! - Limits: thread group leaders only, as `ps` shows them; each once, and no more than a kernel has pids.
//! - Reference: Linux `include/linux/sched.h`, `include/linux/cred.h`, `include/linux/mm_types.h`.

use std::collections::HashSet;

use super::btf::{Btf, Field};
use super::kernel::Kernel;
use super::linux_clock::ClockReader;
use super::linux_paths::PathReader;
use super::record_parts::Part;
use super::structure::{Extract, View, either, needed};
use crate::event::{Event, Precision, Span, TzBasis};
use crate::parser::Context;
use crate::text::clean;

/// More processes than this no machine has.
const MOST_TASKS: usize = 1 << 20;
/// How much of a command line is read.
const LONGEST_COMMAND: u64 = 32 << 10;
/// `PF_KTHREAD`.
const IS_KERNEL_THREAD: u64 = 0x0020_0000;
/// A uid or session that was never set.
const UNSET: u64 = 0xffff_ffff;

/// Where the members of a task lie.
pub(crate) struct TaskReader {
    first: u64,
    list: u64,
    extract: Extract,
    tgid: Field,
    comm: Field,
    start: Option<Field>,
    parent: Option<Field>,
    cred: Option<Field>,
    files: Option<Field>,
    mm: Option<Field>,
    flags: Option<Field>,
    state: Option<Field>,
    exit_state: Option<Field>,
    login_uid: Option<Field>,
    session: Option<Field>,
    owner: Option<OwnerReader>,
    memory: Option<MemoryReader>,
    paths: Option<PathReader>,
}

struct OwnerReader {
    extract: Extract,
    uid: Field,
    gid: Field,
    euid: Field,
}

struct MemoryReader {
    pgd: Field,
    arg_start: Field,
    arg_end: Field,
    exe_file: Option<Field>,
}

impl OwnerReader {
    fn new(types: &Btf) -> Option<OwnerReader> {
        let field = |way| types.field("cred", way);
        let (uid, gid, euid) = (field("uid")?, field("gid")?, field("euid")?);
        Some(OwnerReader { extract: Extract::over([&uid, &gid, &euid])?, uid, gid, euid })
    }
}

impl MemoryReader {
    fn new(types: &Btf) -> Option<MemoryReader> {
        let field = |way| types.field("mm_struct", way);
        Some(MemoryReader {
            pgd: field("pgd")?,
            arg_start: field("arg_start")?,
            arg_end: field("arg_end")?,
            exe_file: field("exe_file"),
        })
    }
}

/// A task as it was found.
pub(crate) struct Task {
    /// The bytes that hold pid, name and times.
    pub(crate) part: Part,
    /// The bytes of its credentials that say whose it is.
    pub(crate) owner: Part,
    /// Its open files (`struct files_struct`).
    pub(crate) files: Option<u64>,
    /// Its memory (`struct mm_struct`); kernel threads have none.
    pub(crate) mm: Option<u64>,
    parent: Option<u64>,
}

/// What a task's own bytes say of it.
pub(crate) struct Identity {
    /// Its pid, which is that of its thread group.
    pub(crate) pid: i64,
    /// Its name.
    pub(crate) name: String,
    /// Its owner.
    pub(crate) uid: Option<u32>,
}

impl TaskReader {
    /// Finds the members of a task.
    ///
    /// # Errors
    ///
    /// In words, which symbol or member is missing.
    pub(crate) fn new(kernel: &Kernel) -> Result<TaskReader, String> {
        let types = kernel.types();
        let first = kernel.symbol("init_task").ok_or("the kernel's symbols have no init_task")?;
        let list = needed(types, "task_struct", "tasks.next")?.offset;
        let field = |way| types.field("task_struct", way);
        let (tgid, comm) = (needed(types, "task_struct", "tgid")?, needed(types, "task_struct", "comm")?);
        let start = either(types, "task_struct", &["start_boottime", "real_start_time"]);
        let cred = either(types, "task_struct", &["real_cred", "cred"]);
        let state = either(types, "task_struct", &["__state", "state"]);
        let (parent, files, mm, flags, exit_state, login_uid, session) = (
            field("real_parent"),
            field("files"),
            field("mm"),
            field("flags"),
            field("exit_state"),
            field("loginuid"),
            field("sessionid"),
        );
        let needed = [Some(tgid), Some(comm)];
        let others = [start, parent, cred, files, mm, flags, state, exit_state, login_uid, session];
        let fields: Vec<Field> = needed.into_iter().chain(others).flatten().collect();
        let extract = Extract::over(&fields).ok_or("struct task_struct is impossibly large")?;
        Ok(TaskReader {
            first,
            list,
            extract,
            tgid,
            comm,
            start,
            parent,
            cred,
            files,
            mm,
            flags,
            state,
            exit_state,
            login_uid,
            session,
            owner: OwnerReader::new(types),
            memory: MemoryReader::new(types),
            paths: PathReader::new(types),
        })
    }

    /// Gives every task of the list. Where the list breaks, the rest is found from its other end, and the place is said.
    pub(crate) fn for_each(
        &self,
        kernel: &Kernel,
        task: &mut dyn FnMut(Task),
        broken: &mut dyn FnMut(Span, &'static str),
    ) {
        let mut seen = HashSet::from([self.first]);
        // The same bytes may be mapped at many addresses: they are still one process.
        let mut places = HashSet::new();
        let mut last = Span::default();
        // Next pointers first, then the pointers back.
        for link in [self.list, self.list.saturating_add(8)] {
            let mut at = self.first;
            loop {
                let next = kernel.u64(at.wrapping_add(link)).and_then(|next| next.checked_sub(self.list));
                let Some(next) = next else {
                    broken(last, "the list of processes is broken behind this one");
                    break;
                };
                if next == self.first {
                    return;
                }
                if seen.len() > MOST_TASKS {
                    broken(last, "the list of processes does not end");
                    return;
                }
                if !seen.insert(next) {
                    if link == self.list {
                        broken(last, "the list of processes runs in a circle behind this one");
                    }
                    break;
                }
                let Some(found) = self.task(kernel, next) else {
                    broken(last, "the process behind this one is not in the image");
                    break;
                };
                last = found.part.spans.first().copied().unwrap_or(last);
                if !places.insert(last) {
                    broken(last, "the list of processes comes to this one by two addresses");
                    break;
                }
                task(found);
                at = next;
            }
        }
    }

    /// Gives every task of the list to what may fail on it; where it does, the task's place is said behind all of them.
    pub(crate) fn try_each(
        &self,
        kernel: &Kernel,
        task: &mut dyn FnMut(&Task) -> Result<(), &'static str>,
        broken: &mut dyn FnMut(Span, &'static str),
    ) {
        let mut troubles: Vec<(Span, &'static str)> = Vec::new();
        let mut each = |found: Task| {
            if let Err(why) = task(&found) {
                troubles.push((found.part.spans.first().copied().unwrap_or_default(), why));
            }
        };
        self.for_each(kernel, &mut each, broken);
        troubles.into_iter().for_each(|(span, why)| broken(span, why));
    }

    fn task(&self, kernel: &Kernel, address: u64) -> Option<Task> {
        let part = kernel.part(address.checked_add(self.extract.start)?, self.extract.length)?;
        let view = self.extract.of(&part.bytes);
        let pointer = |field: &Option<Field>| view.number(field.as_ref()?).filter(|at| *at != 0);
        let owner =
            self.owner.as_ref().zip(pointer(&self.cred)).and_then(|(owner, at)| {
                kernel.part(at.checked_add(owner.extract.start)?, owner.extract.length)
            });
        Some(Task {
            owner: owner.unwrap_or_default(),
            files: pointer(&self.files),
            parent: pointer(&self.parent),
            mm: pointer(&self.mm),
            part,
        })
    }

    /// What the row of a process stands on.
    pub(crate) fn parts(&self, kernel: &Kernel, task: Task, clock: &Part) -> Vec<Part> {
        let parent =
            task.parent.and_then(|at| kernel.part(at.checked_add(self.tgid.offset)?, self.tgid.size));
        let (mut command, mut exe) = (Part::default(), [Part::default(), Part::default()]);
        if let Some((memory, mm)) = self.memory.as_ref().zip(task.mm) {
            let pointer = |field: &Field| kernel.u64(mm.checked_add(field.offset)?);
            let arguments = || {
                let (from, to) = (pointer(&memory.arg_start)?, pointer(&memory.arg_end)?);
                let root = kernel.physical(pointer(&memory.pgd)?)?;
                let length = to.checked_sub(from)?.min(LONGEST_COMMAND);
                kernel.part_of(&kernel.tables().of_process(root), from, length)
            };
            command = arguments().unwrap_or_default();
            let file = memory.exe_file.as_ref().and_then(pointer).filter(|at| *at != 0);
            if let Some((paths, file)) = self.paths.as_ref().zip(file) {
                exe = paths.parts(kernel, file).unwrap_or_default();
            }
        }
        let [names, hashed] = exe;
        vec![task.part, task.owner, parent.unwrap_or_default(), clock.clone(), command, names, hashed]
    }

    /// Whether a task is named `name`, or runs a program of that name.
    pub(crate) fn is_program(&self, kernel: &Kernel, task: &Task, name: &str) -> bool {
        let view = self.extract.of(&task.part.bytes);
        if view.text(&self.comm) == Some(name.as_bytes()) {
            return true;
        }
        let path = || {
            let memory = self.memory.as_ref()?;
            let file = kernel.u64(task.mm?.checked_add(memory.exe_file.as_ref()?.offset)?)?;
            let [names, _] = self.paths.as_ref()?.parts(kernel, file)?;
            Some(names.bytes.split(|b| *b == 0).next()? == name.as_bytes())
        };
        path().unwrap_or(false)
    }

    /// What a task's bytes, and those of its credentials, say of it.
    pub(crate) fn identity(&self, part: &Part, owner: &Part) -> Option<Identity> {
        let view = self.extract.of(&part.bytes);
        let uid = self.owner.as_ref().and_then(|reader| reader.extract.of(&owner.bytes).number(&reader.uid));
        Some(Identity {
            pid: view.signed(&self.tgid)?,
            name: clean(view.text(&self.comm)?),
            uid: uid.and_then(|uid| u32::try_from(uid).ok()),
        })
    }

    /// The row of a process.
    pub(crate) fn rows(&self, parts: &[Part], clock: Option<&ClockReader>, context: &Context) -> Vec<Event> {
        let [task, owner, parent, time, command, exe, hashed] = parts else { return Vec::new() };
        let Some(identity) = self.identity(task, owner) else { return Vec::new() };
        let view = self.extract.of(&task.bytes);
        let number = |field: &Option<Field>| view.number(field.as_ref()?);
        let is_thread = number(&self.flags).is_some_and(|flags| flags & IS_KERNEL_THREAD != 0);
        let parent = (!parent.bytes.is_empty()).then(|| super::address_space::le(&parent.bytes));
        let command = command_line(&command.bytes);

        let what = if is_thread { "kernel thread" } else { "process" };
        let mut message = format!("{what} {} ({}) started", identity.name, identity.pid);
        if let Some(user) = identity.uid.filter(|_| !is_thread) {
            let name = context.user(user).map_or_else(|| user.to_string(), |name| format!("{name} ({user})"));
            message.push_str(&format!(" by user {name}"));
        }
        if let Some(command) = &command {
            message.push_str(&format!(": {command}"));
        }
        let mut event = Event::new("memory:process", "Start Time", Span::default(), message);
        let clock = clock.and_then(|clock| clock.clock(time));
        let started = self.start.as_ref().and_then(|field| view.number(field));
        if let Some(time) = clock.zip(started).and_then(|(clock, nanos)| clock.after_boot(nanos)) {
            event = event.at(time, Precision::Ns, TzBasis::UtcByFormat);
        }
        event.category = Some("process".into());
        event.action = Some("process-started".into());
        event.pid = Some(identity.pid);
        event.process = Some(identity.name);
        event.user_name = identity.uid.and_then(|uid| context.user(uid)).map(str::to_owned);
        event.command = command;
        event.path = self.paths.as_ref().and_then(|_| PathReader::path(exe));
        let attrs = &mut event.attrs;
        attrs.put_some("ppid", parent);
        attrs.put_some("uid", identity.uid);
        if let Some(reader) = &self.owner {
            let view = reader.extract.of(&owner.bytes);
            attrs.put_some("gid", view.number(&reader.gid));
            attrs.put_some(
                "euid",
                view.number(&reader.euid).filter(|id| Some(*id) != identity.uid.map(u64::from)),
            );
        }
        attrs.put_some("login_uid", number(&self.login_uid).filter(|id| *id != UNSET));
        attrs.put_some("session", number(&self.session).filter(|id| *id != UNSET));
        attrs.put_some("state", self.state_word(view));
        attrs.put("kernel_thread", is_thread);
        attrs.put_some("boottime_ns", started);
        if event.path.is_some() && PathReader::is_deleted(hashed) == Some(true) {
            attrs.put("executable_deleted", true);
        }
        vec![event]
    }

    fn state_word(&self, view: View<'_>) -> Option<&'static str> {
        let number = |field: &Option<Field>| view.number(field.as_ref()?);
        Some(match (number(&self.exit_state).unwrap_or(0), number(&self.state)?) {
            (0x20, _) => "zombie",
            (0x10, _) => "dead",
            (_, 0) => "running",
            (_, state) if state & 0x402 == 0x402 => "idle",
            (_, state) if state & 1 != 0 => "sleeping",
            (_, state) if state & 2 != 0 => "waiting",
            (_, state) if state & 4 != 0 => "stopped",
            (_, state) if state & 8 != 0 => "traced",
            _ => "other",
        })
    }
}

/// The arguments, separated by spaces.
fn command_line(bytes: &[u8]) -> Option<String> {
    let end = bytes.iter().rposition(|b| *b != 0)?;
    let words: Vec<String> = bytes.get(..=end)?.split(|b| *b == 0).map(clean).collect();
    Some(words.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_joined_and_empty_ones_kept() {
        assert_eq!(command_line(b"a\0b c\0\0d\0\0").as_deref(), Some("a b c  d"));
        assert_eq!(command_line(b"\0\0"), None);
        assert_eq!(command_line(b"cut").as_deref(), Some("cut"));
    }
}
