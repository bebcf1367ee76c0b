//! Counts instead of events: facets and histograms.

use polars::prelude::{
    AnyValue, DataType, Expr, LazyFrame, SortMultipleOptions, TimeUnit, TimeZone, UnionArgs, col, concat,
    len, lit,
};

use super::engine::{collect, guarded};
use super::question::Query;
use crate::Error;

/// Facets: `column`, `value`, `count`, the most frequent value of each column first. A histogram: `start` of the
/// bucket, the facets' columns, `count`; buckets without events are left out.
pub(super) fn plan(events: LazyFrame, query: &Query) -> Result<LazyFrame, Error> {
    if let Some(bucket) = query.histogram {
        let width = lit(bucket.micros());
        let utc = DataType::Datetime(TimeUnit::Microseconds, Some(TimeZone::UTC));
        let start = (col("ts").cast(DataType::Int64).floor_div(width.clone()) * width).cast(utc);
        let mut by: Vec<Expr> = vec![start.alias("start")];
        by.extend(query.facet.iter().map(|name| col(name.as_str())));
        let mut order = vec!["start"];
        order.extend(query.facet.iter().map(String::as_str));
        let counted = events.filter(col("ts").is_not_null()).group_by(by).agg([len().alias("count")]);
        let sorted = counted.sort(order, SortMultipleOptions::default().with_nulls_last(true));
        return Ok(limited(sorted, query));
    }
    let facets: Vec<LazyFrame> = query
        .facet
        .iter()
        .map(|name| {
            let counted = events.clone().group_by([col(name.as_str())]).agg([len().alias("count")]).select([
                lit(name.as_str()).alias("column"),
                col(name.as_str()).cast(DataType::String).alias("value"),
                col("count"),
            ]);
            let order = SortMultipleOptions::default().with_order_descending_multi([true, false]);
            limited(counted.sort(["count", "value"], order), query)
        })
        .collect();
    guarded(|| concat(facets, UnionArgs { parallel: false, maintain_order: true, ..UnionArgs::default() }))
}

fn limited(frame: LazyFrame, query: &Query) -> LazyFrame {
    match query.limit {
        Some(limit) => frame.limit(u32::try_from(limit).unwrap_or(u32::MAX)),
        None => frame,
    }
}

/// How many events there are, and how many of them have no time.
pub(super) fn count(events: LazyFrame) -> Result<(u64, u64), Error> {
    let counted = collect(events.select([
        len().cast(DataType::UInt64).alias("all"),
        col("ts").null_count().cast(DataType::UInt64).alias("undated"),
    ]))?;
    let number = |name: &str| match counted.column(name).map(|c| c.get(0)) {
        Ok(Ok(AnyValue::UInt64(n))) => Ok(n),
        _ => Err(Error::Query { reason: "the engine gave no count".into() }),
    };
    Ok((number("all")?, number("undated")?))
}
