//! One column of a row group in the making, for each kind of column.
//!
//! Most columns of most rows are empty or repeat the value above: that must cost next to nothing.

use std::collections::HashMap;

use polars::prelude::{
    ChunkTake, ChunkedBuilder, DataType, IdxCa, IdxSize, IntoSeries, NewChunkedArray, PlSmallStr,
    PolarsNumericType, PolarsResult, PrimitiveChunkedBuilder, Series, StringChunked, StringChunkedBuilder,
};

/// A column whose builder is made with its first value: an empty one is only counted.
pub(super) struct Late<B> {
    name: &'static str,
    rows: usize,
    builder: Option<B>,
}

/// A builder that [`Late`] can make.
pub(super) trait Build {
    type Value<'a>;

    /// A builder that has `nulls` rows without a value.
    fn with_nulls(name: PlSmallStr, nulls: usize) -> Self;
    fn add(&mut self, value: Option<Self::Value<'_>>);
    fn series(self) -> PolarsResult<Series>;
}

impl<B: Build> Late<B> {
    pub(super) fn new(name: &'static str) -> Late<B> {
        Late { name, rows: 0, builder: None }
    }

    pub(super) fn append_option(&mut self, value: Option<B::Value<'_>>) {
        match (&mut self.builder, value) {
            (Some(builder), value) => builder.add(value),
            (None, None) => {}
            (None, value) => {
                self.builder.insert(B::with_nulls(self.name.into(), self.rows)).add(value);
            }
        }
        self.rows += 1;
    }

    /// The column; of `data_type` where no value told the type.
    pub(super) fn finish(self, data_type: &DataType) -> PolarsResult<Series> {
        match self.builder {
            Some(builder) => builder.series(),
            None => Ok(Series::full_null(self.name.into(), self.rows, data_type)),
        }
    }
}

/// Rows that a builder has room for at first.
const ROOM: usize = 16 << 10;

impl Build for StringChunkedBuilder {
    type Value<'a> = &'a str;

    fn with_nulls(name: PlSmallStr, nulls: usize) -> Self {
        let mut builder = StringChunkedBuilder::new(name, nulls.max(ROOM));
        (0..nulls).for_each(|_| builder.append_null());
        builder
    }

    fn add(&mut self, value: Option<&str>) {
        self.append_option(value);
    }

    fn series(self) -> PolarsResult<Series> {
        Ok(self.finish().into_series())
    }
}

impl<T: PolarsNumericType> Build for PrimitiveChunkedBuilder<T> {
    type Value<'a> = T::Native;

    fn with_nulls(name: PlSmallStr, nulls: usize) -> Self {
        let mut builder = PrimitiveChunkedBuilder::new(name, nulls.max(ROOM));
        (0..nulls).for_each(|_| builder.append_null());
        builder
    }

    fn add(&mut self, value: Option<T::Native>) {
        self.append_option(value);
    }

    fn series(self) -> PolarsResult<Series> {
        Ok(self.finish().into_series())
    }
}

/// Text of few different words: each is kept once, and a row is its number.
pub(super) struct Words {
    name: PlSmallStr,
    numbers: Vec<Option<IdxSize>>,
    words: Vec<Box<str>>,
    by_word: HashMap<Box<str>, IdxSize>,
    last: Option<IdxSize>,
}

impl Words {
    fn number(&mut self, word: &str) -> IdxSize {
        let last = self.last.and_then(|n| Some((n, self.words.get(n as usize)?)));
        if let Some((number, same)) = last
            && **same == *word
        {
            return number;
        }
        let number = match self.by_word.get(word) {
            Some(number) => *number,
            None => {
                let number = self.words.len() as IdxSize;
                self.words.push(word.into());
                self.by_word.insert(word.into(), number);
                number
            }
        };
        self.last = Some(number);
        number
    }
}

impl Build for Words {
    type Value<'a> = &'a str;

    fn with_nulls(name: PlSmallStr, nulls: usize) -> Self {
        let mut numbers = Vec::with_capacity(nulls.max(ROOM));
        numbers.resize(nulls, None);
        Words { name, numbers, words: Vec::new(), by_word: HashMap::new(), last: None }
    }

    fn add(&mut self, value: Option<&str>) {
        let number = value.map(|word| self.number(word));
        self.numbers.push(number);
    }

    fn series(self) -> PolarsResult<Series> {
        let words = StringChunked::from_iter_values(self.name, self.words.iter());
        let numbers: IdxCa = self.numbers.into_iter().collect();
        Ok(words.take(&numbers)?.into_series())
    }
}
