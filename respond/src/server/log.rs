//! What the service tells its operator: one JSON object a line, ASCII only, so that nothing from an alert can pass for a
//! line of ours or for a terminal's commands.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use custody::Clock;
use serde_json::{Map, Value};

/// Longer texts are cut.
const LONGEST: usize = 512;

/// Lines of one kind within [`WINDOW`]; more are counted and told at its end.
const MOST_IN_WINDOW: u32 = 20;

const WINDOW: Duration = Duration::from_secs(10);

/// More kinds are not told apart.
const MOST_KINDS: usize = 256;

/// How much it matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// What happens every day.
    Info,
    /// What somebody should look at.
    Warning,
    /// What somebody must look at now.
    Alarm,
}

/// Where lines go, and at what time.
#[derive(Clone)]
pub struct Log(Arc<Inner>);

struct Inner {
    sink: Box<dyn Fn(&str) + Send + Sync>,
    clock: Arc<dyn Clock>,
    windows: Mutex<BTreeMap<String, Window>>,
}

struct Window {
    begun: Instant,
    lines: u32,
    held_back: u64,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a log")
    }
}

impl Log {
    /// Gives each line, without its line feed, to `sink`.
    pub fn new(clock: Arc<dyn Clock>, sink: impl Fn(&str) + Send + Sync + 'static) -> Self {
        Self(Arc::new(Inner { sink: Box::new(sink), clock, windows: Mutex::default() }))
    }

    /// Tells nobody.
    pub fn silent(clock: Arc<dyn Clock>) -> Self {
        Self::new(clock, |_| {})
    }

    /// Writes one line: `time`, `level`, `event`, and the fields.
    pub fn write(&self, level: Level, event: &str, fields: &[(&str, Value)]) {
        let mut line = Map::new();
        line.insert("time".to_owned(), self.0.clock.now().rfc3339().into());
        let level = match level {
            Level::Info => "info",
            Level::Warning => "warning",
            Level::Alarm => "alarm",
        };
        line.insert("level".to_owned(), level.into());
        line.insert("event".to_owned(), event.into());
        for (name, value) in fields {
            line.insert((*name).to_owned(), bounded(value));
        }
        (self.0.sink)(&ascii(&Value::Object(line).to_string()));
    }

    /// As [`Log::write`], of what a stranger can cause as often as he likes: some lines of each `kind` in ten seconds, then
    /// how many more there were.
    pub fn write_some(&self, level: Level, event: &str, kind: &str, fields: &[(&str, Value)]) {
        let mut windows = self.0.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= MOST_KINDS && !windows.contains_key(kind) {
            windows.retain(|_, window| window.begun.elapsed() < WINDOW);
            if windows.len() >= MOST_KINDS {
                return;
            }
        }
        let fresh = || Window { begun: Instant::now(), lines: 0, held_back: 0 };
        let window = windows.entry(kind.to_owned()).or_insert_with(fresh);
        let mut held_back = 0;
        if window.begun.elapsed() >= WINDOW {
            held_back = window.held_back;
            *window = fresh();
        }
        window.lines += 1;
        let is_told = window.lines <= MOST_IN_WINDOW;
        if !is_told {
            window.held_back += 1;
        }
        drop(windows);
        if held_back > 0 {
            self.write(level, event, &[("kind", kind.into()), ("more_like_it", held_back.into())]);
        }
        if is_told {
            self.write(level, event, fields);
        }
    }
}

fn bounded(value: &Value) -> Value {
    match value {
        Value::String(text) if text.len() > LONGEST => {
            let cut: String = text.chars().take(LONGEST).collect();
            Value::String(format!("{cut}…"))
        }
        Value::Array(_) | Value::Object(_) => {
            let text = value.to_string();
            if text.len() > 4 * LONGEST { bounded(&Value::String(text)) } else { value.clone() }
        }
        other => other.clone(),
    }
}

/// JSON with everything but printable ASCII escaped.
fn ascii(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if (' '..='~').contains(&c) {
            out.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                out.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use custody::FixedClock;

    use super::*;

    fn lines() -> (Log, Arc<Mutex<Vec<String>>>) {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&lines);
        let log =
            Log::new(Arc::new(FixedClock::at(0)), move |line| kept.lock().unwrap().push(line.to_owned()));
        (log, lines)
    }

    #[test]
    fn what_an_alert_says_stays_one_line_of_printable_ascii() {
        let (log, lines) = lines();
        let hostile = "x\n{\"level\":\"info\"}\r\u{1b}[2J\u{202e}\u{2028}\u{7f}é😀";
        log.write(
            Level::Warning,
            "refused",
            &[("path", hostile.into()), ("deep", serde_json::json!({"a": hostile}))],
        );
        let lines = lines.lock().unwrap();
        assert_eq!(lines.len(), 1);
        assert!(lines[0].bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{}", lines[0]);
        let read: Value = serde_json::from_str(&lines[0]).unwrap();
        assert_eq!(read["path"], hostile);
        assert_eq!(read["deep"]["a"], hostile);
        assert_eq!((&read["level"], &read["event"]), (&"warning".into(), &"refused".into()));
    }

    #[test]
    fn a_flood_of_one_kind_is_cut_and_other_kinds_are_not() {
        let (log, lines) = lines();
        for _ in 0..1000 {
            log.write_some(Level::Warning, "refused", "bad_signature", &[]);
        }
        log.write_some(Level::Warning, "refused", "old_time", &[]);
        assert_eq!(lines.lock().unwrap().len(), 21);
        log.write(Level::Info, "long", &[("text", "a".repeat(1 << 20).into())]);
        assert!(lines.lock().unwrap().last().unwrap().len() < 1000);
    }
}
