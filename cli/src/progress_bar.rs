//! Progress bars with rate and time left, drawn only on a terminal.

use std::sync::Mutex;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::ui::Ui;

/// Draws what the libraries report.
pub(crate) struct Bars {
    draw: bool,
    unit: Unit,
    bar: Mutex<Option<ProgressBar>>,
}

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Bytes.
    Bytes,
    /// Files.
    #[cfg(feature = "timeline")]
    Files,
    /// Nothing: only the time is shown.
    Time,
}

impl Bars {
    /// A bar that counts `unit`, silent where progress is not drawn.
    pub(crate) fn new(ui: Ui, unit: Unit) -> Bars {
        Bars { draw: ui.draws_progress(), unit, bar: Mutex::new(None) }
    }

    /// Shows that something goes on, until this is dropped.
    pub(crate) fn waiting(ui: Ui, what: &str) -> Bars {
        let bars = Bars::new(ui, Unit::Time);
        bars.start(what, None);
        bars
    }

    fn start(&self, what: &str, total: Option<u64>) {
        if !self.draw {
            return;
        }
        let (pos, rate) = match self.unit {
            Unit::Bytes => ("{binary_bytes}/{binary_total_bytes}", "{binary_bytes_per_sec}"),
            #[cfg(feature = "timeline")]
            Unit::Files => ("{human_pos}/{human_len}", "{per_sec}"),
            Unit::Time => ("", ""),
        };
        let template = match total {
            Some(_) => format!("{{msg}} [{{bar:20}}] {pos} {rate} ETA {{eta}}"),
            None => {
                format!("{{msg}} {{spinner}} {} {rate} {{elapsed}}", pos.split('/').next().unwrap_or(pos))
            }
        };
        let bar = total.map_or_else(ProgressBar::no_length, ProgressBar::new).with_message(what.to_owned());
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        if let Ok(mut slot) = self.bar.lock() {
            *slot = Some(bar);
        }
    }

    fn advance(&self, n: u64) {
        if self.draw
            && let Ok(slot) = self.bar.lock()
            && let Some(bar) = slot.as_ref()
        {
            bar.inc(n);
        }
    }

    fn finish(&self) {
        if let Ok(mut slot) = self.bar.lock()
            && let Some(bar) = slot.take()
        {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Bars {
    fn drop(&mut self) {
        self.finish();
    }
}

impl acquire::Progress for Bars {
    fn started(&self, what: &str, total_bytes: Option<u64>) {
        self.finish();
        self.start(what, total_bytes);
    }

    fn part(&self, what: &str) {
        if let Ok(slot) = self.bar.lock()
            && let Some(bar) = slot.as_ref()
        {
            bar.set_message(what.to_owned());
        }
    }

    fn advanced(&self, bytes: u64) {
        self.advance(bytes);
    }

    fn finished(&self) {
        self.finish();
    }
}

#[cfg(feature = "timeline")]
impl timeline::progress::Progress for Bars {
    fn started(&self, what: &str, total: Option<u64>) {
        self.finish();
        self.start(what, total);
    }

    fn advanced(&self, files: u64) {
        self.advance(files);
    }

    fn finished(&self) {
        self.finish();
    }
}
