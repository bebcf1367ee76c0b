//! Widths of the columns of a table.

use super::fonts::Fonts;
use super::lines::lines;
use super::page::MEASURE;
use super::table::{HEAD, PAD_X, setting, spans_of};
use super::text::Setting;
use crate::report::document::{ColumnKind, Span, Table};

/// Rows that are looked at.
const LOOKED_AT: usize = 200;

/// Widths of the columns, which fill the measure: what each needs first, then what each could use, by weight.
pub(super) fn widths(fonts: &Fonts, table: &Table) -> Vec<f32> {
    let mut needs: Vec<Need> = Vec::with_capacity(table.columns.len());
    for (at, column) in table.columns.iter().enumerate() {
        let setting = setting(column.kind);
        let head = unbroken(fonts, &[Span::plain(column.title.clone())], &HEAD);
        let mut need = Need {
            tight: head.0.min(MEASURE / 6.0),
            least: head.0.min(MEASURE * 0.4),
            most: head.1,
            width: 0.0,
            weight: f32::from(column.weight.max(1)),
            step: if column.kind == ColumnKind::Hash { 8.0 * 0.6 * 0.93 * setting.look.size } else { 0.0 },
        };
        for row in table.rows.iter().take(LOOKED_AT) {
            let spans = row.cells.get(at).map(|spans| spans_of(column.kind, spans)).unwrap_or_default();
            let (least, most) = unbroken(fonts, &spans, &setting);
            let least = match column.kind {
                ColumnKind::Time | ColumnKind::Number => most,
                // A hash is broken; sixteen digits of it are not.
                ColumnKind::Hash => least.min(16.0 * 0.6 * setting.look.size),
                ColumnKind::Words => least.min(MEASURE / 6.0),
            }
            .min(MEASURE * 0.4);
            // A column of times or numbers is broken at a space before it takes room that others lack.
            let tight = parts(fonts, &spans, &setting, " \n/\\-_.,:;=");
            need.tight = need.tight.max(tight.min(least).min(MEASURE / 8.0));
            need.least = need.least.max(least);
            need.most = need.most.max(most);
        }
        need.tight += 2.0 * PAD_X + 0.5;
        need.least += 2.0 * PAD_X + 0.5;
        need.most = (need.most + 2.0 * PAD_X + 0.5).min(MEASURE);
        needs.push(need);
    }
    share_out(&mut needs);
    needs.iter().map(|need| need.width).collect()
}

struct Need {
    /// Without breaking a word where it has no sign that parts it.
    tight: f32,
    /// Without breaking a word, a time or a number.
    least: f32,
    /// In one line.
    most: f32,
    width: f32,
    weight: f32,
    /// Width of the eight digits by which a hash is broken; 0 for other texts.
    step: f32,
}

fn share_out(needs: &mut [Need]) {
    let sum = |part: fn(&Need) -> f32, needs: &[Need]| -> f32 { needs.iter().map(part).sum() };
    let over = sum(|need| need.least, needs) - MEASURE;
    let gives = sum(|need| need.least - need.tight, needs);
    let share = if gives > 0.0 { (over / gives).clamp(0.0, 1.0) } else { 0.0 };
    needs.iter_mut().for_each(|need| need.width = need.least - (need.least - need.tight) * share);
    let shrink = (MEASURE / sum(|need| need.width, needs).max(1.0)).min(1.0);
    needs.iter_mut().for_each(|need| need.width *= shrink);
    // Each round fills one column at least, or ends.
    for _ in 0..=needs.len() {
        let rest = MEASURE - needs.iter().map(|need| need.width).sum::<f32>();
        let weight: f32 = needs.iter().filter(|need| need.width < need.most).map(|need| need.weight).sum();
        if rest <= 0.1 || weight == 0.0 {
            break;
        }
        for need in needs.iter_mut().filter(|need| need.width < need.most) {
            need.width = (need.width + rest * need.weight / weight).min(need.most);
        }
    }
    // A hash is broken into halves, quarters or eighths; what is left over is of more use to other columns.
    if needs.iter().any(|need| need.step == 0.0) {
        for need in needs.iter_mut().filter(|need| need.step > 0.0 && need.width < need.most) {
            let inner = need.width - 2.0 * PAD_X - 0.5;
            let steps = [8.0, 4.0, 2.0, 1.0].into_iter().find(|steps| steps * need.step <= inner + 0.01);
            need.width = steps.map_or(need.width, |steps| steps * need.step + 2.0 * PAD_X + 0.6);
        }
    }
    let rest = (MEASURE - needs.iter().map(|need| need.width).sum::<f32>()).max(0.0);
    let takes = |need: &Need| need.step == 0.0 || need.width >= need.most;
    let weight: f32 = needs.iter().filter(|need| takes(need)).map(|need| need.weight).sum();
    for need in needs.iter_mut() {
        need.width += if takes(need) && weight > 0.0 { rest * need.weight / weight } else { 0.0 };
    }
}

/// The widest word and the whole text in one line.
fn unbroken(fonts: &Fonts, spans: &[Span], setting: &Setting) -> (f32, f32) {
    let most = widest(fonts, spans, setting);
    (parts(fonts, spans, setting, " \n").min(most.max(1.0)), most)
}

/// The widest of the parts that these signs end.
fn parts(fonts: &Fonts, spans: &[Span], setting: &Setting, signs: &str) -> f32 {
    let words = spans.iter().flat_map(|span| {
        let parts = span.text.split_inclusive(|character| signs.contains(character));
        parts.map(|part| Span::new(part.trim(), span.style))
    });
    words.map(|word| widest(fonts, &[word], setting)).fold(0.0, f32::max)
}

fn widest(fonts: &Fonts, spans: &[Span], setting: &Setting) -> f32 {
    lines(fonts, spans, setting, f32::MAX).iter().map(|line| line.width).fold(0.0, f32::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn need(least: f32, most: f32, weight: f32) -> Need {
        Need { tight: least / 2.0, least, most, width: 0.0, weight, step: 0.0 }
    }

    #[test]
    fn the_columns_fill_the_measure_and_none_is_narrower_than_its_need() {
        for mut needs in [
            vec![need(20.0, 40.0, 1.0), need(50.0, 900.0, 6.0), need(60.0, 60.0, 1.0)],
            vec![need(20.0, 40.0, 1.0), need(50.0, 60.0, 1.0)],
            vec![need(100.0, 100.0, 1.0)],
        ] {
            share_out(&mut needs);
            let sum: f32 = needs.iter().map(|need| need.width).sum();
            assert!((sum - MEASURE).abs() < 0.5, "{sum}");
            assert!(needs.iter().all(|need| need.width >= need.least - 0.01));
        }
    }

    #[test]
    fn columns_that_need_more_than_there_is_share_what_there_is() {
        let mut needs = vec![need(400.0, 400.0, 1.0), need(800.0, 900.0, 1.0)];
        share_out(&mut needs);
        assert!((needs.iter().map(|need| need.width).sum::<f32>() - MEASURE).abs() < 0.5);
    }
}
