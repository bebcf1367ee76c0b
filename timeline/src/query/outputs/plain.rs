//! CSV, JSON Lines and Parquet: the answer as it is.

use std::io::Write;

use polars::prelude::{
    AnyValue, Column, DataFrame, Field, ParquetCompression, ParquetWriter, Schema, Series,
};

use super::{Written, put_csv_field, unwritten};
use crate::Error;
use crate::query::answer::{Answer, AnswerRow};
use crate::query::engine::guarded;

pub(super) fn csv(answer: Answer, out: &mut dyn Write) -> Result<Written, Error> {
    let width = answer.columns().len();
    let mut line = Vec::new();
    for (n, column) in answer.columns().iter().enumerate() {
        if n > 0 {
            line.push(b',');
        }
        put_csv_field(&mut line, &column.name);
    }
    line.push(b'\n');
    out.write_all(&line).map_err(unwritten)?;
    let mut written = Written::default();
    for row in answer {
        let row = row?;
        line.clear();
        for n in 0..width {
            if n > 0 {
                line.push(b',');
            }
            put_csv_field(&mut line, &row.value(n).to_text());
        }
        line.push(b'\n');
        out.write_all(&line).map_err(unwritten)?;
        written.rows += 1;
    }
    Ok(written)
}

pub(super) fn jsonl(answer: Answer, out: &mut dyn Write) -> Result<Written, Error> {
    let mut written = Written::default();
    for row in answer {
        put_json_line(&row?.to_json(), out)?;
        written.rows += 1;
    }
    Ok(written)
}

pub(super) fn put_json_line(
    object: &serde_json::Map<String, serde_json::Value>,
    out: &mut dyn Write,
) -> Result<(), Error> {
    serde_json::to_writer(&mut *out, object).map_err(|e| unwritten(e.into()))?;
    out.write_all(b"\n").map_err(unwritten)
}

/// Rows of a row group of an answer in Parquet.
const GROUP: usize = 64 << 10;

pub(super) fn parquet(answer: Answer, out: &mut dyn Write) -> Result<Written, Error> {
    let fields: Vec<Field> =
        answer.columns().iter().map(|c| Field::new(c.name.as_str().into(), c.data_type.clone())).collect();
    let schema: Schema = fields.iter().cloned().collect();
    let mut writer = guarded(|| {
        ParquetWriter::new(out).with_compression(ParquetCompression::Zstd(None)).batched(&schema)
    })?;
    let mut written = Written::default();
    let mut held: Vec<AnswerRow> = Vec::new();
    for row in answer {
        held.push(row?);
        written.rows += 1;
        if held.len() == GROUP {
            let group = group(&held, &fields)?;
            guarded(|| writer.write_batch(&group))?;
            held.clear();
        }
    }
    let group = group(&held, &fields)?;
    guarded(|| {
        writer.write_batch(&group)?;
        writer.finish()
    })?;
    Ok(written)
}

fn group(rows: &[AnswerRow], fields: &[Field]) -> Result<DataFrame, Error> {
    let columns: Vec<Column> = fields
        .iter()
        .enumerate()
        .map(|(n, field)| {
            let values: Vec<AnyValue<'_>> = rows.iter().map(|row| row.engine_value(n)).collect();
            let name = field.name().clone();
            guarded(|| Series::from_any_values_and_dtype(name, &values, field.dtype(), true))
                .map(Column::from)
        })
        .collect::<Result<_, _>>()?;
    guarded(|| DataFrame::new(rows.len(), columns))
}
